//! The documents of a cache that travels: BuildKit's `application/vnd.buildkit.cacheconfig.v0`. Pure.
//!
//! `layers` name blobs and what they lie on; `records` name a key each, the layers it leads to (`layers` counts a layer with all below
//! it, `chains` lists each), and the records that lead to it (`inputs`).

use std::collections::{BTreeMap, HashMap};

use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::{DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::tree::{BuiltLayer, Layers};

/// The media type of the document.
pub(super) const CONFIG_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The annotation of a layer with the digest of its uncompressed tar.
pub(super) const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The annotation of a layer with the time at which it was made.
pub(super) const CREATED_AT: &str = "buildkit/createdat";

/// A step of a build, as far as caches speak of it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// All keys by which it is known.
    pub(crate) keys: Vec<String>,
    /// What it took, by the place of the input.
    pub(crate) inputs: Vec<Vec<Link>>,
    /// What it came to.
    pub(crate) outputs: Vec<Layers>,
    /// When, in Unix nanoseconds.
    pub(crate) created_ns: i64,
}

/// Something that a step took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// An output of another step.
    Step(usize, usize),
    /// Something from elsewhere, by the digest of its operation.
    Source(Digest),
}

/// The document.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<Record>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) blob: Digest,
    /// The layer below; -1 is none.
    #[serde(default)]
    pub(super) parent: i64,
    /// What else is known of it here. Layers of the same bytes may have been made at different times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<LayerAnnotations>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerAnnotations {
    #[serde(rename = "createdAt", default)]
    created_at: String,
}

impl LayerAnnotations {
    /// Of a layer that was made at a time, in Unix nanoseconds.
    pub(super) fn made(created_ns: i64) -> Self {
        Self { created_at: rfc3339(created_ns) }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Result>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chains: Vec<Chain>,
    #[serde(default)]
    digest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<Input>>,
    #[serde(rename = "dev.ferry", default, skip_serializing_if = "Option::is_none")]
    own: Option<Own>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Result {
    layer: usize,
    #[serde(rename = "createdAt", default)]
    created_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chain {
    layers: Vec<usize>,
    #[serde(rename = "createdAt", default)]
    created_at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Input {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    selector: String,
    link: usize,
}

/// What ferry adds to a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Own {
    /// Records with the same number are of one step.
    step: usize,
    /// What the step's tree consists of.
    diffs: Vec<DiffId>,
}

/// The key of one output of a step.
fn output_key(key: &str, output: usize) -> String {
    match output {
        0 => key.to_owned(),
        output => Digest::sha256(format!("{key}@{output}").as_bytes()).to_string(),
    }
}

/// Where the layers of a step are found in a document.
pub(super) trait Places {
    /// A layer with all below it, or each of several; `None` for layers that do not travel.
    fn place(&mut self, layers: &Layers) -> Option<Found>;
}

/// A place.
pub(super) enum Found {
    Top(usize),
    Each(Vec<usize>),
}

/// Writes the records of steps.
pub(super) fn records(steps: &[Step], places: &mut dyn Places) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut sources: HashMap<Digest, usize> = HashMap::new();
    // By step and output, the records that it has, one for each key.
    let mut written: Vec<Vec<Vec<usize>>> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let inputs: Vec<Vec<Input>> = step
            .inputs
            .iter()
            .map(|links| {
                let links = links.iter().flat_map(|link| match link {
                    Link::Step(step, output) => written[*step].get(*output).cloned().unwrap_or_default(),
                    Link::Source(digest) => vec![*sources.entry(digest.clone()).or_insert_with(|| {
                        records.push(plain(digest.to_string()));
                        records.len() - 1
                    })],
                });
                links.map(|link| Input { selector: String::new(), link }).collect()
            })
            .filter(|links: &Vec<Input>| !links.is_empty())
            .collect();
        let mut outputs = Vec::new();
        for (output, layers) in step.outputs.iter().enumerate() {
            let created_at = rfc3339(step.created_ns);
            let (mut tops, mut chains) = (Vec::new(), Vec::new());
            match places.place(layers) {
                Some(Found::Top(layer)) => tops.push(Result { layer, created_at }),
                Some(Found::Each(layers)) => chains.push(Chain { layers, created_at }),
                None => {}
            }
            let diffs = layers.0.iter().map(|layer| layer.diff_id.clone()).collect();
            let own = Some(Own { step: number, diffs });
            let mut places = Vec::new();
            for key in &step.keys {
                places.push(records.len());
                records.push(Record {
                    layers: tops.clone(),
                    chains: chains.clone(),
                    digest: output_key(key, output),
                    inputs: inputs.clone(),
                    own: own.clone(),
                });
            }
            outputs.push(places);
        }
        written.push(outputs);
    }
    records
}

fn plain(digest: String) -> Record {
    Record { layers: Vec::new(), chains: Vec::new(), digest, inputs: Vec::new(), own: None }
}

/// A document that was read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What keys lead to.
    by_key: HashMap<String, Entry>,
    /// The keys of each step.
    steps: HashMap<usize, Vec<String>>,
}

#[derive(Debug, Clone)]
struct Entry {
    layers: Layers,
    created_ns: i64,
    step: Option<usize>,
}

/// What a key leads to.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) outputs: Vec<Layers>,
    pub(crate) created_ns: i64,
    /// All keys of the step.
    pub(crate) keys: Vec<String>,
}

impl Known {
    /// Takes the records of a document; `blobs` describes the layers that travel with it.
    pub(super) fn read(config: &Config, blobs: &HashMap<Digest, Descriptor>) -> Self {
        let mut known = Self::default();
        for record in &config.records {
            let travelling = record
                .layers
                .iter()
                .find_map(|result| Some((with_all_below(config, result.layer)?, result.created_at.as_str())));
            let listed = || {
                let chain = record.chains.first()?;
                let blobs = chain.layers.iter().map(|layer| config.layers.get(*layer));
                Some((blobs.collect::<Option<Vec<_>>>()?, chain.created_at.as_str()))
            };
            let found = travelling.or_else(listed).and_then(|(digests, created_at)| {
                let layers = digests.iter().map(|layer| {
                    let mut built = built_layer(blobs.get(&layer.blob)?)?;
                    let created = layer.annotations.as_ref().map(|known| time_ns(&known.created_at));
                    built.created_ns = created.filter(|time| *time != 0).or(built.created_ns);
                    Some(built)
                });
                Some((layers.collect::<Option<Vec<_>>>()?, time_ns(created_at)))
            });
            let promised = || {
                let own = record.own.as_ref()?;
                Some((own.diffs.iter().map(promised_layer).collect(), 0))
            };
            let Some((layers, created_ns)) = found.or_else(promised) else { continue };
            let step = record.own.as_ref().map(|own| own.step);
            if let Some(step) = step {
                known.steps.entry(step).or_default().push(record.digest.clone());
            }
            known.by_key.insert(record.digest.clone(), Entry { layers: Layers::of(layers), created_ns, step });
        }
        known
    }

    /// Finds the outputs of a step by one of its keys.
    pub(super) fn find(&self, key: &str, outputs: usize) -> Option<Hit> {
        let entries: Vec<&Entry> =
            (0..outputs).map(|output| self.by_key.get(&output_key(key, output))).collect::<Option<_>>()?;
        let first = entries.first()?;
        let keys = first.step.and_then(|step| self.steps.get(&step)).cloned().unwrap_or_default();
        let outputs: Vec<Layers> = entries.iter().map(|entry| entry.layers.clone()).collect();
        // Of a step with several outputs the keys of the others would be taken for further keys.
        let keys = if outputs.len() == 1 { keys } else { vec![key.to_owned()] };
        Some(Hit { outputs, created_ns: first.created_ns, keys })
    }
}

/// A layer and all below it, lowest first; `None` where they go round in circles.
fn with_all_below(config: &Config, layer: usize) -> Option<Vec<&Layer>> {
    let mut layers = Vec::new();
    let mut next = i64::try_from(layer).ok()?;
    while next >= 0 {
        let layer = config.layers.get(usize::try_from(next).ok()?)?;
        layers.push(layer);
        if layers.len() > config.layers.len() {
            return None;
        }
        next = layer.parent;
    }
    layers.reverse();
    Some(layers)
}

fn built_layer(descriptor: &Descriptor) -> Option<BuiltLayer> {
    let diff_id = DiffId(Digest::parse(descriptor.annotations.get(UNCOMPRESSED)?).ok()?);
    let created_ns = descriptor.annotations.get(CREATED_AT).map(|text| time_ns(text)).filter(|time| *time != 0);
    let descriptor = Descriptor { annotations: BTreeMap::new(), ..descriptor.clone() };
    Some(BuiltLayer { descriptor, diff_id, created_ns, size_bytes: 0, foreign: false })
}

/// A layer of which nothing is known but its files; no blob has such a digest.
fn promised_layer(diff_id: &DiffId) -> BuiltLayer {
    let descriptor = Descriptor::new("", diff_id.0.clone(), 0);
    BuiltLayer { descriptor, diff_id: diff_id.clone(), created_ns: None, size_bytes: 0, foreign: false }
}

fn time_ns(text: &str) -> i64 {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    time.filter(|time| *time > 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str) -> BuiltLayer {
        let descriptor = Descriptor::new("", Digest::sha256(format!("blob of {name}").as_bytes()), 1);
        let diff_id = DiffId(Digest::sha256(name.as_bytes()));
        BuiltLayer { descriptor, diff_id, created_ns: Some(1_700_000_000_000_000_000), size_bytes: 0, foreign: false }
    }

    struct Listed(Vec<BuiltLayer>);

    impl Places for Listed {
        fn place(&mut self, layers: &Layers) -> Option<Found> {
            let at = |layer: &BuiltLayer| self.0.iter().position(|known| known == layer);
            let all: Vec<usize> = layers.0.iter().map(at).collect::<Option<_>>()?;
            Some(if all.len() == 1 { Found::Top(all[0]) } else { Found::Each(all) })
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (base, own, hidden) = (layer("base"), layer("own"), layer("hidden"));
        let source = Digest::sha256(b"source");
        let steps = [
            Step {
                keys: vec!["a".to_owned(), "quick a".to_owned()],
                inputs: vec![vec![Link::Source(source.clone())]],
                outputs: vec![Layers::of(vec![hidden.clone()])],
                created_ns: 5,
            },
            Step {
                keys: vec!["b".to_owned()],
                inputs: vec![vec![Link::Source(source)], vec![Link::Step(0, 0)]],
                outputs: vec![Layers::of(vec![base.clone(), own.clone()]), Layers::of(vec![base.clone()])],
                created_ns: 6,
            },
        ];
        let records = records(&steps, &mut Listed(vec![base.clone(), own.clone()]));
        let layers = vec![
            Layer { blob: base.descriptor.digest.clone(), parent: -1, annotations: None },
            Layer {
                blob: own.descriptor.digest.clone(),
                parent: 0,
                annotations: Some(LayerAnnotations::made(1_700_000_000_000_000_000)),
            },
        ];
        let text = serde_json::to_string(&Config { layers, records }).unwrap();
        assert!(text.contains(r#""inputs":[[{"link":0}],[{"link":1},{"link":2}]]"#), "{text}");
        let config: Config = serde_json::from_str(&text).unwrap();
        let describe = |layer: &BuiltLayer| {
            let annotations = BTreeMap::from([
                (UNCOMPRESSED.to_owned(), layer.diff_id.0.to_string()),
                (CREATED_AT.to_owned(), "2023-11-14T22:13:20Z".to_owned()),
            ]);
            (layer.descriptor.digest.clone(), Descriptor { annotations, ..layer.descriptor.clone() })
        };
        let known = Known::read(&config, &HashMap::from([describe(&base), describe(&own)]));
        let hit = known.find("b", 2).unwrap();
        assert_eq!(hit.outputs, steps[1].outputs);
        assert!(known.find("b", 3).is_none() && known.find("c", 1).is_none());
        let promised = known.find("quick a", 1).unwrap();
        assert_eq!(promised.outputs[0].chain(), steps[0].outputs[0].chain());
        assert_eq!(promised.keys, ["a", "quick a"]);
    }

    #[test]
    fn hostile_documents_lead_nowhere() {
        let blob = Digest::sha256(b"x");
        for text in [
            format!(
                r#"{{"layers":[{{"blob":"{blob}","parent":0}}],"records":[{{"digest":"k","layers":[{{"layer":0}}]}}]}}"#
            ),
            r#"{"records":[{"digest":"k","layers":[{"layer":7}]},{"digest":"k","chains":[{"layers":[1]}]}]}"#
                .to_owned(),
        ] {
            let config: Config = serde_json::from_str(&text).unwrap();
            assert!(Known::read(&config, &HashMap::new()).find("k", 1).is_none(), "{text}");
        }
    }
}
