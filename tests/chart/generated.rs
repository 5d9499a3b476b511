//! What is made from the chart and from the types: the chart's CRD templates, and the plain manifests under `deploy/`.
//!
//! `make generate` writes them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use weir::api::crds::{Variant, crds, files, to_yaml};

use crate::helm::{self, Release, Rendered, render};

const HEADER: &str = "# Made from charts/weir by `make generate`. Do not edit.\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One template per definition, with both variants.
fn crd_templates() -> Vec<(PathBuf, String)> {
    let spec = |yaml: &str| -> String {
        let start = yaml.find("\nspec:\n").expect("a definition has a spec");
        yaml[start + 1..].to_owned()
    };
    let templates: Vec<_> = crds(Variant::Full)
        .iter()
        .zip(&crds(Variant::Compat))
        .map(|(full, compat)| {
            let name = full.metadata.name.as_deref().expect("a definition has a name");
            let full_spec = spec(&to_yaml(full).expect("it can be written"));
            let compat_spec = spec(&to_yaml(compat).expect("it can be written"));
            assert!(!full_spec.contains("{{"), "{name} holds what Helm would run");
            let text = format!(
                "{{{{- /* Made from src/api by `make generate`. Do not edit. */}}}}\n\
                 {{{{- if .Values.crds.install }}}}\n\
                 apiVersion: apiextensions.k8s.io/v1\n\
                 kind: CustomResourceDefinition\n\
                 metadata:\n  name: {name}\n  labels:\n    \
                 {{{{- include \"weir.labels\" . | nindent 4 }}}}\n  \
                 {{{{- if .Values.crds.keep }}}}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{{{- end }}}}\n\
                 {{{{- if .Values.crds.compat }}}}\n{compat_spec}{{{{- else }}}}\n{full_spec}{{{{- end }}}}\n\
                 {{{{- end }}}}\n"
            );
            let file = format!("charts/weir/templates/crds/{}.yaml", full.spec.names.plural);
            (root().join(file), text)
        })
        .collect();
    templates
}

/// A folder of plain manifests and how the chart is rendered for it.
struct Flavour {
    folder: &'static str,
    about: &'static str,
    crds: &'static str,
    values: serde_json::Value,
}

fn flavours() -> Vec<Flavour> {
    vec![
        Flavour {
            folder: "base",
            about: "Weir for the whole cluster: kubectl apply -k deploy/base\n\
                    # Set the image first: kustomize edit set image weir=YOUR.REGISTRY/weir:TAG",
            crds: "../../crds",
            values: json!({}),
        },
        Flavour {
            folder: "namespaced",
            about: "Weir for its own namespace only, without any ClusterRole: kubectl apply -k deploy/namespaced\n\
                    # For more namespaces use the chart (`namespaces`), or repeat the Role and RoleBinding `weir` in each and add it to\n\
                    # WEIR_NAMESPACES. Set the image first: kustomize edit set image weir=YOUR.REGISTRY/weir:TAG",
            crds: "../../crds",
            values: json!({"namespaces": ["weir-system"]}),
        },
        Flavour {
            folder: "local",
            about: "Weir on the test cluster of hack/cluster: the image that hack/image loads, definitions for old servers.",
            crds: "../crds-compat",
            values: json!({
                "image": {"repository": "weir.test/weir", "tag": "dev"},
                // Its kubelet listens on the loopback address alone.
                "metrics": {"scrape": "Proxy"},
            }),
        },
    ]
}

/// Without what only makes sense under Helm.
fn plain(text: &str) -> String {
    let mut out = HEADER.to_owned();
    let helm = ["helm.sh/chart:", "app.kubernetes.io/managed-by:"];
    for line in text.trim().trim_start_matches("---").trim_start_matches('\n').lines() {
        if !helm.iter().any(|label| line.trim_start().starts_with(label)) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn deploy() -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for flavour in flavours() {
        let mut values = flavour.values.clone();
        values["crds"] = json!({"install": false});
        let Rendered { texts } = render(Release::default(), &values);
        let folder = root().join("deploy").join(flavour.folder);
        let mut resources = String::new();
        for (name, text) in texts.iter().filter(|(name, _)| name.ends_with(".yaml")) {
            writeln!(resources, "- {name}").unwrap();
            all.push((folder.join(name), plain(text)));
        }
        all.push((folder.join("namespace.yaml"), namespace()));
        all.push((
            folder.join("kustomization.yaml"),
            format!(
                "{HEADER}# {}\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- {}\n- namespace.yaml\n{resources}",
                flavour.about, flavour.crds
            ),
        ));
    }
    all.extend(compat_crds());
    all
}

/// The pod keeps the strictest pod security standard, so its namespace asks for it.
fn namespace() -> String {
    format!(
        "{HEADER}apiVersion: v1\nkind: Namespace\nmetadata:\n  name: weir-system\n  labels:\n    \
         app.kubernetes.io/name: weir\n    pod-security.kubernetes.io/enforce: restricted\n"
    )
}

fn compat_crds() -> Vec<(PathBuf, String)> {
    let folder = root().join("deploy/crds-compat");
    let mut kustomization = "# Made from src/api by `make generate`. Do not edit.\n\
         # The definitions for servers before 1.25, which know neither CEL rules nor selectable fields.\n\
         apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
        .to_owned();
    let mut all = Vec::new();
    for file in files(Variant::Compat).expect("the definitions can be written") {
        writeln!(kustomization, "- {}", file.name).unwrap();
        all.push((folder.join(file.name), file.content));
    }
    all.push((folder.join("kustomization.yaml"), kustomization));
    all
}

fn write(files: Vec<(PathBuf, String)>) {
    for (path, content) in files {
        std::fs::create_dir_all(path.parent().expect("each file is in a folder")).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// `hack/generate.d/chart` runs it.
#[test]
#[ignore = "writes into the source tree; `make generate` runs it"]
fn generate() {
    write(crd_templates());
    write(deploy());
}

#[test]
fn generated_files_are_up_to_date() {
    let mut wanted = crd_templates();
    wanted.extend(deploy());
    let stale: Vec<_> = wanted
        .iter()
        .filter(|(path, content)| std::fs::read_to_string(path).ok().as_ref() != Some(content))
        .map(|(path, _)| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert!(stale.is_empty(), "run `make generate`: out of date are {}", stale.join(", "));

    for folder in
        ["charts/weir/templates/crds", "deploy/base", "deploy/namespaced", "deploy/local", "deploy/crds-compat"]
    {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(wanted.iter().any(|(p, _)| *p == path), "delete {}: nothing makes it any more", path.display());
        }
    }
}

#[test]
fn the_chart_installs_the_definitions_of_the_types() {
    for (compat, variant) in [(false, Variant::Full), (true, Variant::Compat)] {
        let rendered = render(Release::default(), &json!({"crds": {"compat": compat}}));
        let mut found = rendered.kind("CustomResourceDefinition");
        for crd in &mut found {
            let metadata = crd["metadata"].as_object_mut().unwrap();
            assert_eq!(metadata["annotations"]["helm.sh/resource-policy"], "keep");
            metadata.retain(|key, _| key == "name");
        }
        let wanted: Vec<serde_json::Value> =
            files(variant).unwrap().iter().flat_map(|file| helm::documents(&file.name, &file.content)).collect();
        assert_eq!(found, wanted, "{variant:?}");
    }
    let without = render(Release::default(), &json!({"crds": {"install": false}}));
    assert!(without.kind("CustomResourceDefinition").is_empty());
    let removable = render(Release::default(), &json!({"crds": {"keep": false}}));
    assert!(removable.kind("CustomResourceDefinition").iter().all(|crd| crd["metadata"]["annotations"].is_null()));
}
