//! `context inspect`

use std::rc::Rc;

use ferry_gotmpl::Struct;
use serde_json::{Value, json};

use crate::config::contexts;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::inspect::Inspection;

/// Runs `context inspect`.
pub(crate) fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let names = if parsed.args.is_empty() { vec![context.target()?.context] } else { parsed.args.clone() };
    let mut inspection = Inspection::new(parsed.text_or_empty("format"))?;
    let mut errors = Vec::new();
    for name in names {
        match describe(context, &name) {
            Ok(document) => {
                let text = Value::to_string(&document).replace('<', "\\u003c").replace('>', "\\u003e");
                inspection.add_as(&text, &for_templates(&document))?
            }
            Err(error) => errors.push(error),
        }
    }
    inspection.finish(&context.printer, errors)
}

/// The document as Docker's client gives it to templates: what is in `.Metadata` is there by its own names as well.
fn for_templates(document: &Value) -> ferry_gotmpl::Value {
    let fields = |names: &[&str]| -> Vec<(String, ferry_gotmpl::Value)> {
        names.iter().map(|name| ((*name).to_owned(), ferry_gotmpl::Value::from_json(&document[*name]))).collect()
    };
    let of = |type_name: &str, fields, json: Value| {
        let (type_name, json) = (type_name.to_owned(), Some(json));
        ferry_gotmpl::Value::Struct(Rc::new(Struct { type_name, fields, json, pointer: false, text: None }))
    };
    let inner = json!({
        "Name": document["Name"], "Metadata": document["Metadata"], "Endpoints": document["Endpoints"],
    });
    let metadata = of("store.Metadata", fields(&["Name", "Metadata", "Endpoints"]), inner);
    let mut all = vec![("Metadata".to_owned(), metadata)];
    all.extend(fields(&["TLSMaterial", "Storage", "Name", "Endpoints"]));
    of("context.contextWithTLSListing", all, document.clone())
}

fn describe(context: &Context, name: &str) -> Result<Value, String> {
    if name == "default" {
        let host = context.target().map(|target| target.host).map_err(|failure| failure.message)?;
        return Ok(contexts::inspect_default(&host));
    }
    contexts::load(&context.config.folder, name).map(|stored| stored.inspect()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use ferry_gotmpl::{Options, Template};

    use super::*;

    #[test]
    fn templates_see_what_dockers_client_has() {
        let document = contexts::inspect_default("unix:///x");
        let shown = |text: &str| {
            let template = Template::parse("", text).unwrap();
            template.execute(&for_templates(&document), Options::default()).map_err(|error| error.to_string())
        };
        assert_eq!(shown("{{.Name}} {{.Endpoints.docker.Host}}").unwrap(), "default unix:///x");
        assert_eq!(shown("{{json .}}").unwrap(), document.to_string());
        let inner =
            r#"{"Name":"default","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///x","SkipTLSVerify":false}}}"#;
        assert_eq!(shown("{{json .Metadata}}").unwrap(), inner);
        assert!(shown("{{.None}}").unwrap_err().contains("None"));
    }
}
