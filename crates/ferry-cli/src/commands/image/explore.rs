//! `image explore`: the layers of an image, on a terminal to walk through, elsewhere as a summary. Docker has nothing like it.

mod keys;
mod screen;
mod view;

use ferry_api::compare::Layers;

use crate::commands::lists;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::format::{human, tabwriter};
use crate::output::{stdin_is_terminal, stdout_is_terminal};

/// Wasted files that a summary names.
const NAMED: usize = 20;

/// How much may be wasted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Bytes(i64),
    Percent(f64),
}

impl Limit {
    /// Reads `20MB` or `10%`.
    fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            return percent.trim().parse().ok().filter(|share| (0.0..=100.0).contains(share)).map(Self::Percent);
        }
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let amount: f64 = text[..end].parse().ok()?;
        let unit = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1e0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            _ => return None,
        };
        Some(Self::Bytes((amount * unit) as i64))
    }

    fn is_passed_by(self, layers: &Layers) -> bool {
        match self {
            Self::Bytes(bytes) => signed(layers.wasted) > bytes,
            Self::Percent(share) => percent(layers) > share,
        }
    }
}

/// Runs `image explore`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let limit = match parsed.text("fail-waste") {
        None => None,
        Some(text) => Some(Limit::parse(text).ok_or_else(|| {
            Failure::new(format!(
                "invalid value {text:?} for --fail-waste: expected a size such as 20MB or a share such as 10%"
            ))
        })?),
    };
    let name = &parsed.args[0];
    let client = context.client().await?;
    let layers = client.image_layers(name, &lists::platform(parsed)?).await?;
    match parsed.text_or_empty("format") {
        "" => {}
        "json" => {
            let json = serde_json::to_string(&layers).map_err(|error| Failure::new(error.to_string()))?;
            context.printer.line(&json)?;
            return verdict(limit, name, &layers);
        }
        other => return Err(Failure::new(format!("unknown format {other:?}: must be `json`"))),
    }
    let at_keyboard = stdin_is_terminal() && stdout_is_terminal();
    if parsed.on("plain") || limit.is_some() || !at_keyboard {
        context.printer.data(summary(name, &layers))?;
        return verdict(limit, name, &layers);
    }
    screen::walk(name, &layers).await?;
    Ok(0)
}

fn verdict(limit: Option<Limit>, name: &str, layers: &Layers) -> Result<u8> {
    match limit.filter(|limit| limit.is_passed_by(layers)) {
        None => Ok(0),
        Some(limit) => {
            let allowed = match limit {
                Limit::Bytes(bytes) => human::size(bytes),
                Limit::Percent(share) => format!("{share}%"),
            };
            let (size, share) = (human::size(signed(layers.wasted)), percent(layers));
            Err(Failure::new(format!("image {name} wastes {size} ({share:.1}%), more than the {allowed} allowed")))
        }
    }
}

fn percent(layers: &Layers) -> f64 {
    if layers.size == 0 { 0.0 } else { layers.wasted as f64 * 100.0 / layers.size as f64 }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What fits a page; nothing in it can play with a terminal.
fn summary(name: &str, layers: &Layers) -> String {
    let head = format!(
        "image    {name} ({}, {})\nsize     {} in {} layers\nwasted   {} ({:.1}%)\n\n",
        human::short_id(&layers.id),
        layers.platform,
        human::size(signed(layers.size)),
        layers.layers.len(),
        human::size(signed(layers.wasted)),
        percent(layers)
    );
    let rows: String = layers
        .layers
        .iter()
        .map(|layer| {
            let made = human::ellipsis(&printable(&layer.created_by), 60);
            let id = human::short_id(&layer.digest);
            format!("{id}\t{}\t{}\t{made}\n", human::size(signed(layer.size)), layer.files.len())
        })
        .collect();
    let mut text = head + &tabwriter::align(&format!("LAYER\tSIZE\tFILES\tCREATED BY\n{rows}"), &tabwriter::LISTS);
    if !layers.waste.is_empty() {
        let rows: String = layers
            .waste
            .iter()
            .take(NAMED)
            .map(|file| format!("{}\t{}\t{}\n", human::size(signed(file.size)), file.times, printable(&file.path)))
            .collect();
        text.push('\n');
        text.push_str(&tabwriter::align(&format!("WASTED\tTIMES\tPATH\n{rows}"), &tabwriter::LISTS));
        if let Some(more) = layers.waste.len().checked_sub(NAMED).filter(|more| *more > 0) {
            text.push_str(&format!("and {more} more\n"));
        }
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_api::compare::{LayerContent, WastedFile};

    #[test]
    fn limits_are_sizes_or_shares() {
        assert_eq!(Limit::parse("20MB"), Some(Limit::Bytes(20_000_000)));
        assert_eq!(Limit::parse("1.5k"), Some(Limit::Bytes(1500)));
        assert_eq!(Limit::parse("10%"), Some(Limit::Percent(10.0)));
        for text in ["", "x", "10x", "101%", "-1%", "MB"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
        let layers = Layers { size: 100, wasted: 20, ..Layers::default() };
        assert!(Limit::Percent(19.9).is_passed_by(&layers) && !Limit::Percent(20.0).is_passed_by(&layers));
        assert!(Limit::Bytes(19).is_passed_by(&layers) && !Limit::Bytes(20).is_passed_by(&layers));
    }

    #[test]
    fn a_summary_names_layers_and_waste() {
        let layers = Layers {
            id: format!("sha256:{}", "a".repeat(64)),
            size: 3000,
            wasted: 1000,
            layers: vec![LayerContent {
                digest: format!("sha256:{}", "b".repeat(64)),
                created_by: "RUN a\tb\u{1b}[0m".into(),
                size: 3000,
                ..LayerContent::default()
            }],
            waste: vec![WastedFile { path: "/big".into(), size: 1000, times: 1 }],
            ..Layers::default()
        };
        let text = summary("app", &layers);
        assert!(text.contains("size     3kB in 1 layers\nwasted   1kB (33.3%)\n"), "{text}");
        assert!(text.contains("bbbbbbbbbbbb   3kB       0         RUN a b [0m\n"), "{text}");
        assert!(text.ends_with("1kB       1         /big\n"), "{text}");
    }
}
