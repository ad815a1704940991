//! What each command does, one file per command.

mod bake;
mod build;
mod buildx;
mod container;
mod contexts;
mod image;
mod inspect;
mod lists;
mod manifest;
mod network;
mod plugin;
mod prune;
mod registry;
mod system;
pub(crate) mod version;
mod volume;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::Parsed;
use crate::grammar::Command;

/// Runs a command whose line has been read.
pub(crate) async fn run(command: &Command, parsed: &Parsed, context: &Context) -> Result<u8> {
    match command.path {
        "container attach" => container::attach::run(parsed, context).await,
        "container commit" => container::commit::run(parsed, context).await,
        "container cp" => container::cp::run(parsed, context).await,
        "container create" => container::create::run(parsed, context).await,
        "container diff" => container::diff::run(parsed, context).await,
        "container exec" => container::exec::run(parsed, context).await,
        "container export" => container::export::run(parsed, context).await,
        "container inspect" => inspect::run_kind("container", parsed, context).await,
        "container kill" => container::kill::run(parsed, context).await,
        "container logs" => container::logs::run(parsed, context).await,
        "container ls" => container::list::run(parsed, context).await,
        "container pause" => container::pause::run(true, parsed, context).await,
        "container port" => container::port::run(parsed, context).await,
        "container prune" => container::prune::run(parsed, context).await,
        "container rename" => container::rename::run(parsed, context).await,
        "container restart" => container::restart::run(parsed, context).await,
        "container rm" => container::remove::run(parsed, context).await,
        "container run" => container::run::run(parsed, context).await,
        "container start" => container::start::run(parsed, context).await,
        "container stats" => container::stats::run(parsed, context).await,
        "container stop" => container::stop::run(parsed, context).await,
        "container top" => container::top::run(parsed, context).await,
        "container unpause" => container::pause::run(false, parsed, context).await,
        "container update" => container::update::run(parsed, context).await,
        "container why" => container::why::run(parsed, context).await,
        "container wait" => container::wait::run(parsed, context).await,
        "context create" => contexts::create::run(parsed, context),
        "context export" => contexts::export::run(parsed, context),
        "context import" => contexts::import::run(parsed, context),
        "context inspect" => contexts::inspect::run(parsed, context),
        "context ls" => contexts::list::run(parsed, context),
        "context rm" => contexts::remove::run(parsed, context),
        "context show" => contexts::show::run(context),
        "context update" => contexts::update::run(parsed, context),
        "context use" => contexts::make_current::run(parsed, context),
        "debug" => container::debug::run(parsed, context).await,
        "buildx bake" => bake::run(parsed, context).await,
        "buildx create" => buildx::builders::create(parsed),
        "buildx dial-stdio" => buildx::builders::dial(parsed, context).await,
        "buildx du" | "builder du" => buildx::usage::disk_usage(parsed, context).await,
        "buildx history import" => buildx::history::import(),
        "buildx history inspect" => buildx::history::inspect::run(parsed, context).await,
        "buildx history inspect attachment" => buildx::history::attachment::run(parsed, context).await,
        "buildx history logs" => buildx::history::logs(parsed, context).await,
        "buildx history ls" => buildx::history::list::run(parsed, context).await,
        "buildx history open" => buildx::history::open(parsed, context).await,
        "buildx history rm" => buildx::history::remove(parsed, context).await,
        "buildx history trace" => buildx::history::trace(parsed, context).await,
        "buildx imagetools create" => buildx::imagetools::create::run(parsed, context).await,
        "buildx imagetools inspect" => buildx::imagetools::inspect::run(parsed, context).await,
        "buildx inspect" => buildx::builders::inspect(parsed, context).await,
        "buildx ls" => buildx::builders::list(parsed, context).await,
        "buildx rm" => buildx::builders::remove(parsed, context),
        "buildx stop" => buildx::builders::stop(parsed),
        "buildx use" => buildx::builders::make_current(parsed),
        "buildx version" => buildx::builders::version(context),
        "buildx prune" => buildx::usage::prune(parsed, context).await,
        "builder prune" => build::prune::run(parsed, context).await,
        "image build" => build::run(parsed, context).await,
        "image explore" => image::explore::run(parsed, context).await,
        "doctor" => system::doctor::run(parsed, context).await,
        "image history" => image::history::run(parsed, context).await,
        "image import" => image::import::run(parsed, context).await,
        "image inspect" => inspect::run_kind("image", parsed, context).await,
        "image load" => image::load::run(parsed, context).await,
        "image ls" => image::list::run(parsed, context).await,
        "image prune" => image::prune::run(parsed, context).await,
        "image pull" => image::pull::run(parsed, context).await,
        "image push" => image::push::run(parsed, context).await,
        "image rm" => image::remove::run(parsed, context).await,
        "image save" => image::save::run(parsed, context).await,
        "image tag" => image::tag::run(parsed, context).await,
        "inspect" => inspect::run(parsed, context).await,
        "login" => registry::login::run(parsed, context).await,
        "logout" => registry::logout::run(parsed, context),
        "manifest annotate" => manifest::annotate::run(parsed, context),
        "manifest create" => manifest::create::run(parsed, context).await,
        "manifest inspect" => manifest::inspect::run(parsed, context).await,
        "manifest push" => manifest::push::run(parsed, context).await,
        "manifest rm" => manifest::remove::run(parsed, context),
        "network connect" => network::connect::run(parsed, context).await,
        "network create" => network::create::run(parsed, context).await,
        "network disconnect" => network::disconnect::run(parsed, context).await,
        "network flows" => network::flows::run(parsed, context).await,
        "network inspect" => inspect::run_kind("network", parsed, context).await,
        "network ls" => network::list::run(parsed, context).await,
        "ports" => network::ports::run(parsed, context).await,
        "network prune" => network::prune::run(parsed, context).await,
        "network rm" => network::remove::run(parsed, context).await,
        "prune" => prune::run(parsed, context).await,
        "plugin create" => plugin::create::run(parsed, context).await,
        "plugin disable" => plugin::verbs::disable(parsed, context).await,
        "plugin enable" => plugin::verbs::enable(parsed, context).await,
        "plugin inspect" => inspect::run_kind("plugin", parsed, context).await,
        "plugin install" => plugin::install::run(parsed, context).await,
        "plugin ls" => plugin::list::run(parsed, context).await,
        "plugin push" => plugin::push::run(parsed, context).await,
        "plugin rm" => plugin::verbs::remove(parsed, context).await,
        "plugin set" => plugin::verbs::set(parsed, context).await,
        "plugin upgrade" => plugin::upgrade::run(parsed, context).await,
        "search" => registry::search::run(parsed, context).await,
        "system df" => system::disk_usage::run(parsed, context).await,
        "system events" => system::events::run(parsed, context).await,
        "system info" => system::info::run(parsed, context).await,
        "system prune" => system::prune::run(parsed, context).await,
        "version" => version::run(parsed, context).await,
        "volume cp" => volume::copy::copy(parsed, context).await,
        "volume du" => volume::usage::disk_usage(parsed, context).await,
        "volume export" => volume::archive::export(parsed, context).await,
        "volume import" => volume::archive::import(parsed, context).await,
        "volume mv" => volume::copy::rename(parsed, context).await,
        "volume snapshot" => volume::copy::snapshot(parsed, context).await,
        "volume used-by" => volume::usage::used_by(parsed, context).await,
        "volume create" => volume::create::run(parsed, context).await,
        "volume inspect" => inspect::run_kind("volume", parsed, context).await,
        "volume ls" => volume::list::run(parsed, context).await,
        "volume prune" => volume::prune::run(parsed, context).await,
        "volume update" => volume::update::run(parsed, context).await,
        "volume rm" => volume::remove::run(parsed, context).await,
        other => Err(Failure::not_implemented(&format!("the command `{other}`"))),
    }
}
