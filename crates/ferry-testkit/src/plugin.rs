//! A small plugin that speaks Docker's plugin protocol: volumes in folders, logs in memory, and a judge who refuses what is told to be
//! refused. It notes every call.
//!
//! Runs as threads of a test, listening inside a sandbox, or as the program `sample-plugin`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Sandbox;
use crate::plugin_network::{Host, Wires};

/// What a plugin says it can do.
pub const EVERYTHING: [&str; 3] = ["VolumeDriver", "LogDriver", "authz"];

/// See the module.
#[derive(Debug)]
pub struct Plugin {
    implements: Vec<String>,
    /// Folder of the volumes, as the engine names it.
    root: PathBuf,
    /// What stands before paths for this process to reach them.
    prefix: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<(String, Value)>,
    volumes: BTreeMap<String, Value>,
    /// Methods that never answer.
    hanging: Vec<String>,
    /// Requests with this in their path or body are refused.
    refused: String,
    logs: BTreeMap<String, Vec<u8>>,
    gives_logs_back: bool,
    scope: String,
    wires: Wires,
}

impl Plugin {
    /// A plugin whose volumes lie in `root`; `prefix` leads this process to where the engine's paths are.
    #[must_use]
    pub fn new(implements: &[&str], root: &Path, prefix: &Path) -> Arc<Self> {
        let implements = implements.iter().map(|&one| one.to_owned()).collect();
        let (root, prefix) = (root.to_owned(), prefix.to_owned());
        // Of an earlier life.
        let folders = std::fs::read_dir(&root).into_iter().flatten().flatten();
        let volumes = folders.map(|folder| (folder.file_name().to_string_lossy().into_owned(), Value::Null)).collect();
        let state = Mutex::new(State { volumes, ..State::default() });
        Arc::new(Self { implements, root, prefix, state, changed: Condvar::new() })
    }

    /// Starts one in a sandbox, under `/run/docker/plugins/NAME.sock`, with its volumes in the sandbox's folder.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn in_sandbox(sandbox: &Sandbox, name: &str) -> Result<Arc<Self>> {
        let folder = sandbox.host_path("/run/docker/plugins");
        std::fs::create_dir_all(&folder).context("make the folder of sockets")?;
        let root = sandbox.dir().join(format!("plugin-{name}"));
        std::fs::create_dir_all(&root).context("make the plugin's folder")?;
        let plugin = Self::new(&EVERYTHING, &root, &sandbox.host_path("/"));
        plugin.listen(&folder.join(format!("{name}.sock")))?;
        Ok(plugin)
    }

    /// Starts one that makes networks and gives addresses, by links in the sandbox.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn of_networks(sandbox: &Arc<Sandbox>, name: &str) -> Result<Arc<Self>> {
        let folder = sandbox.host_path("/run/docker/plugins");
        std::fs::create_dir_all(&folder).context("make the folder of sockets")?;
        let plugin = Self::new(&["NetworkDriver", "IpamDriver"], Path::new("/nonexistent"), &sandbox.host_path("/"));
        // Its threads stay until the process ends; the sandbox must not.
        let sandbox = Arc::downgrade(sandbox);
        let run = move |line: &str| sandbox.upgrade().map_or(1, |sandbox| sandbox.sh(line).code);
        plugin.state().wires.host = Some(Host(Arc::new(run)));
        plugin.listen(&folder.join(format!("{name}.sock")))?;
        Ok(plugin)
    }

    /// Serves a socket, on threads that end with the process.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn listen(self: &Arc<Self>, socket: &Path) -> Result<()> {
        let listener = UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?;
        let plugin = Arc::clone(self);
        std::thread::spawn(move || plugin.serve(&listener));
        Ok(())
    }

    /// Serves a listener until it breaks.
    pub fn serve(self: &Arc<Self>, listener: &UnixListener) {
        for client in listener.incoming().flatten() {
            let plugin = Arc::clone(self);
            std::thread::spawn(move || {
                // A client that is gone is no failure.
                let _ = plugin.answer(client);
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls of a method so far.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let state = self.state();
        state.calls.iter().filter(|(name, _)| name == method).map(|(_, body)| body.clone()).collect()
    }

    /// From now on a method never answers.
    pub fn hang(&self, method: &str) {
        self.state().hanging.push(method.to_owned());
    }

    /// Lets what hangs go on.
    pub fn relent(&self) {
        self.state().hanging.clear();
        self.changed.notify_all();
    }

    /// Requests with this word are refused from now on.
    pub fn refuse(&self, word: &str) {
        word.clone_into(&mut self.state().refused);
    }

    /// Has a volume no longer.
    pub fn lose(&self, volume: &str) {
        self.state().volumes.remove(volume);
    }

    /// Says what its volumes' scope is.
    pub fn set_scope(&self, scope: &str) {
        scope.clone_into(&mut self.state().scope);
    }

    /// Gives lines back from now on.
    pub fn give_logs_back(&self) {
        self.state().gives_logs_back = true;
    }

    /// The messages that came for a container, one after the other.
    #[must_use]
    pub fn log(&self, container: &str) -> Vec<u8> {
        self.state().logs.get(container).cloned().unwrap_or_default()
    }

    fn answer(self: &Arc<Self>, mut client: UnixStream) -> Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        while let Some((method, body)) = read_request(&mut reader)? {
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            self.note(&method, &body);
            let (status, answer) = self.respond(&method, &body);
            write!(client, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len())?;
            client.write_all(&answer)?;
        }
        Ok(())
    }

    fn note(&self, method: &str, body: &Value) {
        let mut state = self.state();
        state.calls.push((method.to_owned(), body.clone()));
        while state.hanging.iter().any(|hanging| hanging == method) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn respond(self: &Arc<Self>, method: &str, body: &Value) -> (&'static str, Vec<u8>) {
        let ok = |value: Value| ("200 OK", value.to_string().into_bytes());
        match method {
            "Plugin.Activate" => ok(json!({ "Implements": self.implements })),
            "LogDriver.ReadLogs" => {
                let id = body["Info"]["ContainerID"].as_str().unwrap_or_default();
                ("200 OK", self.log(id))
            }
            method => match self.call(method, body) {
                Ok(value) => ok(value),
                Err(why) if why.is_empty() => ("404 Not Found", b"page not found\n".to_vec()),
                Err(why) => ok(json!({ "Err": why })),
            },
        }
    }

    fn call(self: &Arc<Self>, method: &str, body: &Value) -> Result<Value, String> {
        let name = body["Name"].as_str().unwrap_or_default();
        let place = |name: &str| self.root.join(name).display().to_string();
        let mut state = self.state();
        if let Some(answer) = state.wires.call(method, body) {
            return answer;
        }
        let known = state.volumes.contains_key(name);
        let missing = || format!("no volume {name} here");
        let about = |name: &str, options: &Value| json!({ "Name": name, "Mountpoint": place(name), "Status": { "opts": options } });
        Ok(match method {
            "VolumeDriver.Capabilities" => json!({ "Capabilities": { "Scope": state.scope } }),
            "VolumeDriver.Create" if !body["Opts"]["refuse"].is_null() => return Err("refused by option".to_owned()),
            "VolumeDriver.Create" => {
                state.volumes.insert(name.to_owned(), body["Opts"].clone());
                std::fs::create_dir_all(self.reach(&place(name))).map_err(|error| error.to_string())?;
                json!({ "Err": "" })
            }
            "VolumeDriver.Remove" if known => {
                state.volumes.remove(name);
                std::fs::remove_dir_all(self.reach(&place(name))).map_err(|error| error.to_string())?;
                json!({})
            }
            "VolumeDriver.Mount" | "VolumeDriver.Path" if known => json!({ "Mountpoint": place(name) }),
            "VolumeDriver.Unmount" if known => json!({}),
            "VolumeDriver.Get" if known => json!({ "Volume": about(name, &state.volumes[name]) }),
            "VolumeDriver.List" => {
                json!({ "Volumes": state.volumes.iter().map(|(name, options)| about(name, options)).collect::<Vec<_>>() })
            }
            "LogDriver.Capabilities" => json!({ "Cap": { "ReadLogs": state.gives_logs_back } }),
            "LogDriver.StartLogging" => {
                drop(state);
                self.take_lines(body);
                json!({ "Err": "" })
            }
            "LogDriver.StopLogging" => json!({}),
            "AuthZPlugin.AuthZReq" | "AuthZPlugin.AuthZRes" => {
                let path = body["RequestUri"].as_str().unwrap_or_default();
                let refused = !state.refused.is_empty() && path.contains(&state.refused);
                json!({ "Allow": !refused, "Msg": if refused { "not today" } else { "" } })
            }
            method if method.starts_with("VolumeDriver.") => return Err(missing()),
            _ => return Err(String::new()),
        })
    }

    /// Where this process finds a path of the engine. The volumes' folder is the same for both.
    fn reach(&self, path: &str) -> PathBuf {
        if Path::new(path).starts_with(&self.root) {
            PathBuf::from(path)
        } else {
            self.prefix.join(path.trim_start_matches('/'))
        }
    }

    fn take_lines(self: &Arc<Self>, body: &Value) {
        let fifo = self.reach(body["File"].as_str().unwrap_or_default());
        let id = body["Info"]["ContainerID"].as_str().unwrap_or_default().to_owned();
        let plugin = Arc::clone(self);
        std::thread::spawn(move || {
            let Ok(mut fifo) = std::fs::File::open(fifo) else { return };
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = fifo.read(&mut buffer) {
                plugin.state().logs.entry(id.clone()).or_default().extend_from_slice(&buffer[..count]);
            }
        });
    }
}

/// Reads one POST; `None` when the client is done.
fn read_request(reader: &mut impl BufRead) -> Result<Option<(String, Vec<u8>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let method = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((method, body)))
}
