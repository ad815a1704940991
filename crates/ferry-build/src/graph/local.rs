//! What of the client's directories a graph looks at.

use super::{ActionInput, FileAction, FileOp, Graph, LocalSource, MountKind, Op, Output, Owner, Source, Vertex};

impl Graph {
    /// The client's directories that these outputs need, with the paths in them that steps look at; none where a step takes all of it.
    #[must_use]
    pub fn local_sources(&self, targets: &[Output]) -> Vec<LocalSource> {
        let needed = self.needed_for(targets);
        let mut sources = Vec::new();
        for id in &needed {
            let Op::Source(Source::Local(local)) = &self.vertex(*id).op else { continue };
            let mut local = local.clone();
            let source = Output::from(*id);
            let users: Vec<&Vertex> = needed.iter().map(|id| self.vertex(*id)).collect();
            // One that is looked at for itself is so as far as steps look at it.
            let is_taken_whole = users.iter().any(|user| user.takes_whole(source))
                || !users.iter().any(|user| user.inputs.contains(&source));
            if is_taken_whole {
                local.follow_paths.clear();
                local.include_patterns.clear();
            }
            sources.push(local);
        }
        sources
    }
}

impl Vertex {
    /// Tells whether it takes all of a tree, or looks at more of it than at the paths that it names.
    fn takes_whole(&self, tree: Output) -> bool {
        let places = self.inputs.iter().enumerate().filter(|(_, input)| **input == tree).map(|(place, _)| place);
        places.into_iter().any(|place| match &self.op {
            Op::Source(_) => false,
            Op::Merge | Op::Diff { .. } | Op::Build(_) => true,
            Op::File(file) => file.takes_whole(place),
            Op::Exec(exec) => exec.mounts.iter().filter(|mount| mount.input == Some(place)).any(|mount| {
                let is_path = mount.output.is_none() && mount.content_cache != Some(false) && mount.target != "/";
                !is_path && !matches!(mount.kind, MountKind::Cache(_))
            }),
        })
    }
}

impl FileOp {
    fn takes_whole(&self, place: usize) -> bool {
        let is_named =
            |owner: &Option<Owner>| matches!(owner, Some(Owner::Name { input, .. }) if *input == Some(place));
        self.steps.iter().any(|step| {
            let owner = step.action.owner();
            step.input == Some(ActionInput::Input(place))
                || owner.is_some_and(|owner| is_named(&owner.user) || is_named(&owner.group))
                || (step.source == Some(ActionInput::Input(place)) && !matches!(step.action, FileAction::Copy(_)))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{CopyAction, Exec, FileStep, LocalDiffer, Mount, VertexMeta};

    use super::*;

    fn local(graph: &mut Graph, name: &str) -> Output {
        let source = LocalSource {
            name: name.to_owned(),
            include_patterns: Vec::new(),
            exclude_patterns: Vec::new(),
            follow_paths: vec!["a".to_owned()],
            differ: LocalDiffer::Metadata,
            shared_key_hint: String::new(),
        };
        graph.add(Op::Source(Source::Local(source)), Vec::new(), None, VertexMeta::default()).unwrap().into()
    }

    fn copy(input: Option<usize>, source: usize) -> Op {
        let action = FileAction::Copy(Box::new(CopyAction { source: "/a".to_owned(), ..CopyAction::default() }));
        let (input, source) = (input.map(ActionInput::Input), Some(ActionInput::Input(source)));
        Op::File(FileOp { steps: vec![FileStep { input, source, output: Some(0), action }] })
    }

    fn run(output: Option<usize>) -> Op {
        let mount = Mount {
            input: Some(0),
            selector: "/a".to_owned(),
            target: "/mnt".to_owned(),
            output,
            read_only: output.is_none(),
            kind: MountKind::Bind,
            content_cache: None,
        };
        let root =
            Mount { input: None, target: "/".to_owned(), selector: String::new(), output: Some(0), ..mount.clone() };
        Op::Exec(Box::new(Exec { mounts: vec![root, mount], ..Exec::default() }))
    }

    #[test]
    fn only_what_is_needed_is_asked_for_and_all_where_paths_do_not_say() {
        for (op, expected) in [
            (copy(None, 0), &["a"][..]),
            (copy(Some(0), 0), &[]),
            (run(None), &["a"]),
            (run(Some(1)), &[]),
            (Op::Merge, &[]),
        ] {
            let mut graph = Graph::new();
            let (used, _) = (local(&mut graph, "used"), local(&mut graph, "unused"));
            let shown = format!("{op:?}");
            let target = graph.add(op, vec![used], None, VertexMeta::default()).unwrap();
            let sources = graph.local_sources(&[target.into()]);
            assert_eq!(sources.len(), 1, "{shown}");
            assert_eq!(
                (sources[0].name.as_str(), &sources[0].follow_paths[..]),
                ("used", &expected.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>()[..]),
                "{shown}"
            );
        }
        let mut graph = Graph::new();
        let used = local(&mut graph, "used");
        assert_eq!(graph.local_sources(&[used])[0].follow_paths, [] as [String; 0]);
    }
}
