//! As much of Helm as the chart needs: values, their schema, Go templates and the functions that the templates call.
//!
//! A template that calls any other function fails to parse here, so the chart stays within what is tested.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use gtmpl_ng::{Context, Func, FuncError, Template, Value};
use serde_json::{Map, Value as Json, json};

/// The folder of the chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/weir")
}

/// Under which name, where, and for which server the chart is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    pub name: &'static str,
    pub namespace: &'static str,
    pub kube_version: &'static str,
}

impl Default for Release {
    fn default() -> Self {
        Self { name: "weir", namespace: "weir-system", kube_version: "v1.30.2" }
    }
}

/// What became of the templates.
#[derive(Debug)]
pub struct Rendered {
    /// The text of each template that left any, by its path under `templates/`.
    pub texts: Vec<(String, String)>,
}

impl Rendered {
    /// All objects, in the order of the templates' names.
    pub fn objects(&self) -> Vec<Json> {
        self.texts
            .iter()
            .filter(|(name, _)| name.ends_with(".yaml"))
            .flat_map(|(name, text)| documents(name, text))
            .collect()
    }

    /// The text of one template.
    pub fn text(&self, name: &str) -> &str {
        self.texts
            .iter()
            .find_map(|(n, text)| (n == name).then_some(text.as_str()))
            .unwrap_or_else(|| panic!("the template {name} left nothing"))
    }

    /// The only object of a kind.
    pub fn one(&self, kind: &str) -> Json {
        let mut found = self.kind(kind);
        assert_eq!(found.len(), 1, "objects of kind {kind}");
        found.remove(0)
    }

    /// All objects of a kind.
    pub fn kind(&self, kind: &str) -> Vec<Json> {
        let mut all = self.objects();
        all.retain(|object| object["kind"] == kind);
        all
    }
}

/// All documents of a YAML stream that hold anything.
pub fn documents(name: &str, text: &str) -> Vec<Json> {
    serde_saphyr::from_multiple::<Json>(text)
        .unwrap_or_else(|error| panic!("{name} is not YAML: {error}\n{text}"))
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

/// The chart's own values.
pub fn default_values() -> Json {
    read_yaml(&chart().join("values.yaml"))
}

/// The errors that `values.schema.json` finds in values.
pub fn schema_errors(values: &Json) -> Vec<String> {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Json = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(values).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Renders the chart as `helm template` does, with `overrides` as a values file.
pub fn render(release: Release, overrides: &Json) -> Rendered {
    let mut values = default_values();
    merge(&mut values, overrides);
    let errors = schema_errors(&values);
    assert!(errors.is_empty(), "the schema refuses {overrides}: {errors:?}");

    let context = context(release, &values);
    let folder = chart().join("templates");
    let mut names = Vec::new();
    list(&folder, &folder, &mut names);
    names.sort();
    let (helpers, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| n.ends_with(".tpl"));
    let helpers: String = helpers.iter().map(|name| read(&folder.join(name))).collect();
    HELPERS.set(helpers);

    let texts = names
        .into_iter()
        .map(|name| {
            let source = read(&folder.join(&name));
            let text = execute(&source, context.clone()).unwrap_or_else(|error| panic!("templates/{name}: {error}"));
            assert!(!text.contains("<no value>"), "templates/{name} reads a value that is not there:\n{text}");
            (name, text)
        })
        .filter(|(_, text)| !text.trim().is_empty())
        .collect();
    Rendered { texts }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file with one document.
pub fn read_yaml(path: &Path) -> Json {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

/// Maps are merged, everything else is replaced, null removes: as Helm treats a values file.
fn merge(base: &mut Json, over: &Json) {
    match (base, over) {
        (Json::Object(base), Json::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key).or_insert(Json::Null), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn context(release: Release, values: &Json) -> Value {
    let chart = read_yaml(&chart().join("Chart.yaml"));
    to_value(&json!({
        "Values": values,
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Release": {"Name": release.name, "Namespace": release.namespace, "Service": "Helm"},
        "Capabilities": {"KubeVersion": {"Version": release.kube_version}},
    }))
}

thread_local! {
    /// The text of all `.tpl` files, which `include` needs and cannot be handed.
    static HELPERS: RefCell<String> = const { RefCell::new(String::new()) };
}

fn execute(source: &str, context: Value) -> Result<String, String> {
    let mut template = Template::default();
    template.add_funcs(FUNCTIONS);
    let helpers = HELPERS.with_borrow(Clone::clone);
    // Here a field cannot be called with arguments.
    let source = source.replace(".Files.Get ", "filesGet ");
    template.parse(format!("{helpers}{source}")).map_err(|error| error.to_string())?;
    template.render(&Context::from(context)).map_err(|error| error.to_string())
}

/// The functions of Helm that the chart calls; what is piped comes last.
const FUNCTIONS: &[(&str, Func)] = &[
    ("include", include),
    // The text of a file of the chart.
    ("filesGet", |a| one("filesGet", a, |path| Ok(read(&chart().join(printed(path))).into()))),
    ("default", |a| {
        two("default", a, |fallback, value| Ok(if truthy(value) { value.clone() } else { fallback.clone() }))
    }),
    ("contains", |a| texts("contains", a, |part, all| all.contains(part).into())),
    ("trimSuffix", |a| texts("trimSuffix", a, |end, text| text.strip_suffix(end).unwrap_or(text).into())),
    ("splitList", |a| texts("splitList", a, |by, text| Value::Array(text.split(by).map(Value::from).collect()))),
    ("quote", |a| one("quote", a, |v| Ok(format!("{:?}", printed(v)).into()))),
    ("toYaml", |a| {
        one("toYaml", a, |v| {
            let yaml = serde_saphyr::to_string(&to_json(v)).map_err(|e| FuncError::Generic(e.to_string()))?;
            Ok(yaml.trim_end().into())
        })
    }),
    ("nindent", |a| {
        two("nindent", a, |by, text| {
            let pad = format!("\n{}", " ".repeat(usize::try_from(number(by)).unwrap_or(0)));
            Ok(format!("{pad}{}", printed(text).replace('\n', &pad)).into())
        })
    }),
    ("trunc", |a| {
        two("trunc", a, |to, text| {
            Ok(printed(text).chars().take(usize::try_from(number(to)).unwrap_or(0)).collect::<String>().into())
        })
    }),
    ("int", |a| one("int", a, |v| Ok(number(v).into()))),
    ("int64", |a| one("int64", a, |v| Ok(number(v).into()))),
    ("add", |a| Ok(a.iter().map(number).sum::<i64>().into())),
    ("join", |a| {
        two("join", a, |by, list| match list {
            Value::Array(list) => Ok(list.iter().map(printed).collect::<Vec<_>>().join(&printed(by)).into()),
            _ => Err(wrong("join", a)),
        })
    }),
    ("append", |a| {
        two("append", a, |list, item| match list {
            Value::Array(list) => Ok(Value::Array(list.iter().chain([item]).cloned().collect())),
            _ => Err(wrong("append", a)),
        })
    }),
    ("uniq", |a| {
        one("uniq", a, |list| {
            let mut seen: Vec<Value> = Vec::new();
            let Value::Array(list) = list else {
                return Err(wrong("uniq", a));
            };
            list.iter().for_each(|item| {
                if !seen.contains(item) {
                    seen.push(item.clone())
                }
            });
            Ok(Value::Array(seen))
        })
    }),
    // Only `>=MAJOR.MINOR-0`, which is all that the chart asks.
    ("semverCompare", |a| {
        texts("semverCompare", a, |wanted, version| {
            let wanted = wanted.strip_prefix(">=").and_then(|w| w.strip_suffix("-0"));
            (minor(version) >= minor(wanted.expect("written as >=MAJOR.MINOR-0"))).into()
        })
    }),
    ("replace", |a| match a {
        [from, to, text] => Ok(printed(text).replace(&printed(from), &printed(to)).into()),
        _ => Err(wrong("replace", a)),
    }),
];

fn include(args: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(name), context] = args else {
        return Err(wrong("include", args));
    };
    execute(&format!("{{{{ template {name:?} . }}}}"), context.clone())
        .map(Value::from)
        .map_err(|error| FuncError::Generic(format!("include {name}: {error}")))
}

/// Major and minor version.
fn minor(version: &str) -> (u32, u32) {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse().expect("a version"));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn wrong(name: &str, args: &[Value]) -> FuncError {
    FuncError::Generic(format!("{name} was called with {args:?}"))
}

fn one(name: &str, args: &[Value], f: impl Fn(&Value) -> Result<Value, FuncError>) -> Result<Value, FuncError> {
    if let [value] = args { f(value) } else { Err(wrong(name, args)) }
}

fn two(name: &str, args: &[Value], f: impl Fn(&Value, &Value) -> Result<Value, FuncError>) -> Result<Value, FuncError> {
    if let [first, second] = args { f(first, second) } else { Err(wrong(name, args)) }
}

fn texts(name: &str, args: &[Value], f: impl Fn(&str, &str) -> Value) -> Result<Value, FuncError> {
    if let [Value::String(first), Value::String(second)] = args { Ok(f(first, second)) } else { Err(wrong(name, args)) }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::NoValue | Value::Nil => false,
        Value::Bool(b) => *b,
        Value::String(text) => !text.is_empty(),
        Value::Object(map) | Value::Map(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Function(_) => true,
        Value::Number(_) => number(value) != 0,
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().expect("the chart holds whole numbers only"),
        other => panic!("{other:?} is not a number"),
    }
}

fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_i64().expect("values hold whole numbers only").into(),
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => Value::Array(list.iter().map(to_value).collect()),
        Json::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), to_value(v))).collect()),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(b) => json!(b),
        Value::String(text) => json!(text),
        Value::Number(_) => json!(number(value)),
        Value::Array(list) => list.iter().map(to_json).collect(),
        Value::Object(map) | Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), to_json(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(Map::from_iter(entries))
        }
    }
}
