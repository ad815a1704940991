//! `/plugins`: managed plugins.

use ferry_api::plugin::Privilege;
use ferry_engine::plugins::managed::PluginPull;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::images::{body_stream, credentials, progress_stream};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::reply::{self, Outcome};
use crate::http::router::{Route, delete, get, post};

/// Tells the client under which name a plugin was installed.
const NAME: HeaderName = HeaderName::from_static("docker-plugin-name");

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/plugins", list),
        get("/plugins/privileges", privileges),
        get("/plugins/{name:.*}/json", inspect),
        delete("/plugins/{name:.*}", remove),
        post("/plugins/pull", pull),
        post("/plugins/create", create),
        post("/plugins/{name:.*}/enable", enable),
        post("/plugins/{name:.*}/disable", disable),
        post("/plugins/{name:.*}/push", push),
        post("/plugins/{name:.*}/upgrade", upgrade),
        post("/plugins/{name:.*}/set", set),
    ]
}

async fn list(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.plugins.managed().list(&call.filters()?)?)
}

async fn inspect(call: Call) -> Outcome {
    reply::json(StatusCode::OK, &call.app.engine.plugins.managed().inspect(call.value("name"))?)
}

async fn remove(call: Call) -> Outcome {
    call.app.engine.plugins.managed().remove(call.value("name"), call.query.flag("force")).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn privileges(call: Call) -> Outcome {
    let auth = credentials(call.header("x-registry-auth"));
    let privileges = call.app.engine.plugins.managed().privileges(call.query.get("remote"), auth).await?;
    reply::json(StatusCode::OK, &privileges)
}

async fn pull(mut call: Call) -> Outcome {
    let request = pull_request(&mut call, "name").await?;
    let (name, progress) = call.app.engine.plugins.managed().pull(request).await?;
    named(name, progress_stream(call, progress))
}

async fn upgrade(mut call: Call) -> Outcome {
    let request = pull_request(&mut call, "").await?;
    let local = call.value("name").to_owned();
    let (name, progress) = call.app.engine.plugins.managed().upgrade(&local, request).await?;
    named(name, progress_stream(call, progress))
}

async fn pull_request(call: &mut Call, name: &str) -> Result<PluginPull, ApiError> {
    let privileges: Option<Vec<Privilege>> = call.json_or_default().await?;
    Ok(PluginPull {
        remote: call.query.get("remote").to_owned(),
        name: if name.is_empty() { String::new() } else { call.query.get(name).to_owned() },
        privileges: privileges.unwrap_or_default(),
        auth: credentials(call.header("x-registry-auth")),
    })
}

fn named(name: String, mut response: hyper::Response<crate::http::body::Body>) -> Outcome {
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(NAME, name);
    }
    Ok(response)
}

async fn create(call: Call) -> Outcome {
    let name = call.query.get("name").to_owned();
    let Call { app, request, .. } = call;
    app.engine.plugins.managed().create(&name, body_stream(request.into_body())).await?;
    reply::no_content()
}

async fn enable(call: Call) -> Outcome {
    let text = call.query.get("timeout");
    let timeout: i64 =
        text.parse().map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
    let timeout = u64::try_from(timeout).unwrap_or(0);
    call.app.engine.plugins.managed().enable(call.value("name"), timeout).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn disable(call: Call) -> Outcome {
    call.app.engine.plugins.managed().disable(call.value("name"), call.query.flag("force")).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn push(call: Call) -> Outcome {
    let auth = credentials(call.header("x-registry-auth"));
    let progress = call.app.engine.plugins.managed().push(call.value("name"), auth).await?;
    Ok(progress_stream(call, progress))
}

async fn set(mut call: Call) -> Outcome {
    let args: Vec<String> = call.json_or_default().await?;
    call.app.engine.plugins.managed().set(call.value("name"), &args).await?;
    reply::no_content()
}
