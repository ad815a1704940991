//! Operations that change files.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_engine::workshop::{Tree as Workpiece, Workshop};

use super::Solve;
use crate::failure::{Doing, Failure, Result, blocking};
use crate::files::{self, CopyOrder, Ids, TakesFile};
use crate::graph::{ActionInput, ChangeOwner, FileAction, FileOp, Owner};
use crate::tree::{BuiltLayer, Layers, OpenTree, Tree};

impl Solve {
    /// Carries the steps out; steps that change each other's results one after the other make one layer.
    pub(super) async fn file(&self, op: &FileOp, inputs: &[Tree]) -> Result<Vec<Layers>> {
        let bases: Vec<Option<usize>> = roots(op)?;
        let mut layers = Vec::new();
        for input in inputs {
            layers.push(self.layers_if_needed(input, op, layers.len()).await?);
        }
        let of = |place: Option<usize>| place.and_then(|place| layers[place].clone()).unwrap_or_default();
        let (order, inputs_open) = (op.clone(), inputs.to_vec());
        let workshop = self.ground.engine.workshop.clone();
        let based: Vec<Layers> = bases.iter().map(|base| of(*base)).collect();
        let all = based.clone();
        let done = blocking(move || carry_out(&order, &all, &inputs_open, &workshop)).await?;
        let mut outputs = vec![Layers::default(); op.outputs()];
        for (output, group, workpiece) in done {
            let stored = self.ground.engine.workshop.layer_of(workpiece).await?;
            outputs[output] = based[group].with(BuiltLayer::made_now(stored));
        }
        Ok(outputs)
    }

    /// Files that came from elsewhere become layers only where something is put onto them.
    async fn layers_if_needed(&self, input: &Tree, op: &FileOp, place: usize) -> Result<Option<Layers>> {
        let is_base = op.steps.iter().any(|step| step.input == Some(ActionInput::Input(place)));
        match (is_base, input) {
            (true, _) | (_, Tree::Layers(_)) => self.layers(input).await.map(Some),
            (false, Tree::Folder(_)) => Ok(None),
        }
    }
}

/// The input that each step's tree begins as; a step on another's result has that one's.
fn roots(op: &FileOp) -> Result<Vec<Option<usize>>> {
    let mut roots: Vec<Option<usize>> = Vec::new();
    for step in &op.steps {
        roots.push(match step.input {
            None => None,
            Some(ActionInput::Input(place)) => Some(place),
            Some(ActionInput::Step(at)) => {
                *roots.get(at).ok_or_else(|| Failure::invalid("a step takes the result of one that comes later"))?
            }
        });
    }
    Ok(roots)
}

type Done = Vec<(usize, usize, Workpiece)>;

/// Runs the steps; a result that is an output is handed back, with the step it is of.
fn carry_out(op: &FileOp, bases: &[Layers], inputs: &[Tree], workshop: &Workshop) -> Result<Done> {
    let opened: Vec<Option<OpenTree>> =
        inputs.iter().map(|input| input.open(workshop).map(Some)).collect::<Result<_>>()?;
    let mut results: Vec<Option<Workpiece>> = Vec::new();
    let mut done = Vec::new();
    for (at, step) in op.steps.iter().enumerate() {
        let workpiece = match step.input {
            // A result that two steps change would have to be forked.
            Some(ActionInput::Step(before)) => results[before]
                .take()
                .ok_or_else(|| Failure::not_implemented("two changes of one intermediate result"))?,
            _ => workshop.tree(bases[at].chain())?,
        };
        let source = match step.source {
            Some(ActionInput::Input(place)) => opened[place].as_ref().map(AsFd::as_fd),
            Some(ActionInput::Step(before)) => results[before].as_ref().map(Workpiece::root),
            None => None,
        };
        // What comes after the only step is the layer.
        let is_own = op.steps.len() == 1
            && matches!(step.source, Some(ActionInput::Input(place)) if inputs[place].index().is_some());
        let given = GivenFiles::default();
        let takes =
            |path: &[u8], file: Option<BorrowedFd<'_>>| given.take(path, file.filter(|_| is_own), file.is_some());
        act(&step.action, workpiece.root(), source, &opened, &takes)?;
        given.hand_over(&workpiece)?;
        results.push(Some(workpiece));
        if let Some(output) = step.output
            && let Some(workpiece) = results[at].take()
        {
            done.push((output, at, workpiece));
        }
    }
    Ok(done)
}

/// Large files that are to become files of a tree as they are, with the places where empty ones stand for them.
#[derive(Default)]
struct GivenFiles(RefCell<Vec<GivenFile>>);

struct GivenFile {
    path: Vec<u8>,
    id: (u64, u64),
    file: OwnedFd,
}

impl GivenFiles {
    /// Takes a file that has no other name; or, when nothing `is_there` any more, forgets what was given for it.
    fn take(&self, path: &[u8], file: Option<BorrowedFd<'_>>, is_there: bool) -> Result<bool> {
        let mut given = self.0.borrow_mut();
        let Some(file) = file else {
            given.retain(|other| is_there || !(other.path == path || files::lies_in(&other.path, path)));
            return Ok(false);
        };
        let stat = rustix::fs::fstat(file).doing("cannot look at a file")?;
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_nlink != 1 || given.iter().any(|other| other.id == id) {
            return Ok(false);
        }
        let file = file.try_clone_to_owned().doing("cannot keep a file open")?;
        given.push(GivenFile { path: path.to_vec(), id, file });
        Ok(true)
    }

    fn hand_over(self, workpiece: &Workpiece) -> Result<()> {
        for GivenFile { path, file, .. } in self.0.into_inner() {
            if !workpiece.take_file(&path, file.as_fd())? {
                files::fill(workpiece.root(), &path, file)?;
            }
        }
        Ok(())
    }
}

fn act(
    action: &FileAction,
    root: BorrowedFd<'_>,
    source: Option<BorrowedFd<'_>>,
    inputs: &[Option<OpenTree>],
    takes: &TakesFile<'_>,
) -> Result<()> {
    let owner = action.owner().map(|owner| ids(owner, root, inputs)).transpose()?;
    match action {
        FileAction::Copy(copy) => {
            let source =
                source.ok_or_else(|| Failure::invalid(format!("\"/{}\": not found", files::clean(&copy.source))))?;
            files::copy(source, root, &CopyOrder::new(copy, owner)?.giving(takes))
        }
        FileAction::MakeFile(order) => files::make_file(root, order, owner),
        FileAction::MakeDir(order) => files::make_dir(root, order, owner),
        FileAction::Symlink(order) => files::make_symlink(root, order, owner),
        FileAction::Remove(order) => files::remove(root, order),
    }
}

fn ids(owner: &ChangeOwner, root: BorrowedFd<'_>, inputs: &[Option<OpenTree>]) -> Result<Ids> {
    let tree = |name: Option<&Owner>| match name {
        Some(Owner::Name { input: Some(place), .. }) => {
            inputs.get(*place).and_then(Option::as_ref).map(AsFd::as_fd).or(Some(root))
        }
        _ => Some(root),
    };
    files::find_ids(owner.user.as_ref(), owner.group.as_ref(), tree(owner.user.as_ref()), tree(owner.group.as_ref()))
}
