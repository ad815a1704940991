//! Builds targets side by side, in one view; one that others use comes before them.
//!
//! What others use they get as an image, under a name of this run that goes with it.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::order::{self, Common};
use super::remote;
use super::run::{Chosen, groups, links, pretty};
use super::target::{self, Target};
use crate::commands::build::display::Display;
use crate::commands::build::{Built, Order, Progress};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{self, Parsed};
use crate::grammar::IMAGE_BUILD;
use crate::options;

/// Builds every target, and tells what came of them.
pub(super) async fn build_all(chosen: &Chosen, parsed: &Parsed, context: &Context) -> Result<u8> {
    let names = image_names(chosen);
    let orders = chosen
        .targets
        .iter()
        .map(|(name, target)| {
            Ok((name.as_str(), order_of(target, name, &names, parsed).map_err(worded(chosen, name))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let word = parsed.text("progress").map(str::to_owned).or_else(|| std::env::var("BUILDKIT_PROGRESS").ok());
    let display = Display::new(Progress::named(word.as_deref().unwrap_or_default())?, context);
    let built = display.around(side_by_side(chosen, orders, &display)).await;
    if !names.is_empty() {
        let client = context.client().await?;
        for image in names.values() {
            // One whose build failed was never named.
            let _ = client.image_remove(image, false, false, &[]).await;
        }
    }
    let built = built?;
    if built.values().all(|one| one.call().is_empty()) {
        display.warn(parsed.on("debug") || context.global.debug);
    }
    if let Some(path) = parsed.text("metadata-file") {
        let metadata: Map<String, Value> = built.iter().map(|(name, one)| (name.clone(), one.metadata())).collect();
        std::fs::write(path, pretty(&Value::Object(metadata))?)?;
    }
    let wants_json = parsed.text_or_empty("call").ends_with(",format=json");
    if wants_json { answer_in_json(chosen, &built, context) } else { answer(chosen, &built, context) }
}

/// The names under which targets that others use are to be had.
fn image_names(chosen: &Chosen) -> BTreeMap<String, String> {
    let run = format!("{}-{:x}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
    let used = chosen.targets.values().flat_map(links);
    used.map(|name| (name.clone(), format!("ferry-bake/{}:{run}", name.to_lowercase()))).collect()
}

/// The build of one target, read as a command line would be.
fn order_of(target: &Target, name: &str, names: &BTreeMap<String, String>, parsed: &Parsed) -> Result<Order> {
    let calls = if parsed.on("check") { "check" } else { parsed.text_or_empty("call") };
    let common = Common {
        // Shown as one; only that nothing is shown matters to each.
        progress: parsed.text_or_empty("progress").to_owned(),
        call: calls.to_owned(),
        pushes: parsed.on("push") && !is_hidden(target),
        tag: names.get(name).cloned(),
        credentials: remote::credentials(),
        on_error: parsed.text_or_empty("on-error").to_owned(),
    };
    let words = order::words(target, &common, &|other| names.get(other).cloned());
    let read = flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check);
    let read = read.map_err(|error| Failure::new(format!("ERROR: {error:?}")))?;
    Order::read(&read, target.get("dockerfile-inline").and_then(Value::as_str))
}

/// A target that only others use.
fn is_hidden(target: &Target) -> bool {
    target.get("output").and_then(|outputs| outputs.get(0)).is_some_and(|output| output["type"] == "cacheonly")
}

/// Says which of several targets failed, as buildx does.
fn worded<'a>(chosen: &'a Chosen, name: &'a str) -> impl Fn(Failure) -> Failure + 'a {
    move |failure| {
        let told = failure.message.strip_prefix("ERROR: ").unwrap_or(&failure.message);
        let told = told.strip_prefix("failed to build: ").unwrap_or(told);
        let message = match chosen.targets.len() {
            1 => format!("ERROR: {told}"),
            _ => format!("ERROR: target {name}: {told}"),
        };
        Failure { message, ..failure }
    }
}

/// Carries the builds out; the first that fails ends all.
async fn side_by_side(
    chosen: &Chosen,
    orders: Vec<(&str, Order)>,
    display: &Display<'_>,
) -> Result<BTreeMap<String, Built>> {
    let ends: BTreeMap<&str, watch::Sender<bool>> =
        chosen.targets.keys().map(|name| (name.as_str(), watch::Sender::new(false))).collect();
    let (ends, is_one_of_many) = (&ends, chosen.targets.len() > 1);
    let each = orders.into_iter().map(|(name, order)| async move {
        for other in links(&chosen.targets[name]) {
            if let Some(end) = ends.get(other.as_str()) {
                // Its sender lives as long as all of this.
                let _ = end.subscribe().wait_for(|has_ended| *has_ended).await;
            }
        }
        let built = order.carry_out(is_one_of_many.then_some(name), display).await.map_err(worded(chosen, name))?;
        if let Some(end) = ends.get(name) {
            end.send_replace(true);
        }
        Ok::<_, Failure>((name.to_owned(), built))
    });
    Ok(try_join_all(each).await?.into_iter().collect())
}

/// Shows what was asked in place of builds, target by target.
fn answer(chosen: &Chosen, built: &BTreeMap<String, Built>, context: &Context) -> Result<u8> {
    let mut code = 0;
    let asked = built.iter().filter(|(_, one)| !one.call().is_empty());
    for (at, (name, one)) in asked.enumerate() {
        let above = if at > 0 { "\n" } else { "" };
        let description = chosen.targets[name].get("description").and_then(Value::as_str);
        let description = description.filter(|text| !text.is_empty()).map(|text| format!("{text}\n"));
        context.printer.data(format!("{above}{name}\n{}\n", description.unwrap_or_default()))?;
        code = code.max(one.answer(context)?.unwrap_or_default());
    }
    Ok(code)
}

/// As [`answer`], all in one.
fn answer_in_json(chosen: &Chosen, built: &BTreeMap<String, Built>, context: &Context) -> Result<u8> {
    let told = |(name, one): (&String, &Built)| {
        let mut told = Map::from_iter([("build".to_owned(), target::printed(&chosen.targets[name]))]);
        told.insert(one.call().to_owned(), one.json());
        (name.clone(), Value::Object(told))
    };
    let targets: Map<String, Value> = built.iter().map(told).collect();
    context.printer.line(&pretty(&json!({ "group": groups(chosen), "target": targets }))?)?;
    Ok(built.values().map(Built::code).max().unwrap_or_default())
}
