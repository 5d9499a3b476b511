//! What the chart makes of its values.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service};
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::helm::{Release, Rendered, default_values, render, schema_errors};

fn with(values: Json) -> Rendered {
    render(Release::default(), &values)
}

fn typed<T: DeserializeOwned>(object: Json) -> T {
    serde_json::from_value(object).unwrap()
}

fn pod(rendered: &Rendered) -> PodSpec {
    let deployment: Deployment = typed(rendered.one("Deployment"));
    deployment.spec.unwrap().template.spec.unwrap()
}

fn container(rendered: &Rendered) -> Container {
    let mut containers = pod(rendered).containers;
    assert_eq!(containers.len(), 1);
    containers.remove(0)
}

fn env(container: &Container, name: &str) -> Option<String> {
    let found: Vec<_> = container.env.iter().flatten().filter(|e| e.name == name).collect();
    assert!(found.len() < 2, "{name} is set twice");
    found.first().and_then(|e| e.value.clone())
}

#[test]
fn the_default_is_these_objects() {
    let mut found: Vec<_> = with(json!({}))
        .objects()
        .iter()
        .map(|o| format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "ClusterRole weir",
            "ClusterRoleBinding weir",
            "CustomResourceDefinition accesskeys.weir.dev",
            "CustomResourceDefinition alertreceivers.weir.dev",
            "CustomResourceDefinition streamsubscriptions.weir.dev",
            "Deployment weir",
            "Role weir-keys",
            "RoleBinding weir-keys",
            "Service weir",
            "ServiceAccount weir",
        ]
    );
}

#[test]
fn namespaced_objects_are_in_the_releases_namespace_and_labelled() {
    let all = with(json!({
        "ingress": {"enabled": true, "hosts": [{"host": "weir.example.com"}]},
        "networkPolicy": {"enabled": true},
        "persistence": {"enabled": true},
        "podDisruptionBudget": {"enabled": true},
        "serviceMonitor": {"enabled": true},
        "prometheusRule": {"enabled": true},
        "grafanaDashboard": {"enabled": true},
    }))
    .objects();
    assert_eq!(all.len(), 17);
    for object in all {
        let kind = object["kind"].as_str().unwrap();
        let metadata = &object["metadata"];
        let cluster_wide = kind.starts_with("Cluster") || kind == "CustomResourceDefinition";
        assert_eq!(metadata["namespace"].as_str(), (!cluster_wide).then_some("weir-system"), "{kind}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/name"], "weir", "{kind}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "weir", "{kind}");
    }
}

#[test]
fn names_follow_the_release() {
    let release = Release { name: "logs", ..Release::default() };
    assert_eq!(render(release, &json!({})).one("Service")["metadata"]["name"], "logs-weir");
    assert_eq!(render(release, &json!({"fullnameOverride": "w"})).one("Service")["metadata"]["name"], "w");
    assert_eq!(render(release, &json!({"nameOverride": "w"})).one("Service")["metadata"]["name"], "logs-w");
}

/// What the pod security standard "restricted" asks for, and a bit more.
#[test]
fn the_pod_can_do_nothing_that_it_need_not() {
    let rendered = with(json!({}));
    let pod = pod(&rendered);
    let context = pod.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!((context.run_as_user, context.run_as_group), (Some(65532), Some(65532)));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (None, None, None));
    assert_eq!(pod.volumes, None);

    let container = container(&rendered);
    let context = container.security_context.unwrap();
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.privileged, None);
    let capabilities = context.capabilities.unwrap();
    assert_eq!((capabilities.drop.unwrap(), capabilities.add), (vec!["ALL".to_owned()], None));
    let resources = container.resources.unwrap();
    assert!(resources.requests.unwrap().contains_key("memory"));
    assert!(resources.limits.unwrap().contains_key("memory"));
}

#[test]
fn the_binary_gets_its_options() {
    let container = container(&with(json!({
        "config": {
            "clusterName": "north", "logFormat": "text", "log": "weir=debug", "rootPath": "/w",
            "maxConnections": 100, "maxConnectionsPerIp": 10, "maxMessageBytes": 65536, "maxLineBytes": 1048576,
            "ringRecords": 10_000_000, "ringBytes": 1_073_741_824, "drainTimeoutSeconds": 5,
            "allowedOrigins": ["https://a.example.com", "https://b.example.com"], "publicMetrics": true,
            "outside": {
                "files": ["/var/log", "/srv/log"], "hosts": ["logs.example.com", "*.internal:443"],
                "listen": ["0.0.0.0:5140"],
            },
            "alertHosts": ["hooks.example.com", "*.internal:8443"],
        },
        "listen": {"address": "[::]", "port": 9000},
        "extraEnv": [{"name": "KUBECONFIG", "value": "/etc/kube/config"}],
        "extraArgs": ["--key-in-url"],
    })));
    assert_eq!(container.args.clone().unwrap(), ["run", "--key-in-url"]);
    for (name, value) in [
        ("WEIR_CLUSTER_NAME", "north"),
        ("WEIR_LOG_FORMAT", "text"),
        ("WEIR_LOG", "weir=debug"),
        ("WEIR_ROOT_PATH", "/w"),
        ("WEIR_MAX_CONNECTIONS", "100"),
        ("WEIR_MAX_CONNECTIONS_PER_IP", "10"),
        ("WEIR_MAX_MESSAGE_BYTES", "65536"),
        ("WEIR_MAX_LINE_BYTES", "1048576"),
        ("WEIR_RING_RECORDS", "10000000"),
        ("WEIR_RING_BYTES", "1073741824"),
        ("WEIR_DRAIN_TIMEOUT", "5s"),
        ("WEIR_ALLOWED_ORIGINS", "https://a.example.com,https://b.example.com"),
        ("WEIR_ALERT_HOSTS", "hooks.example.com,*.internal:8443"),
        ("WEIR_OUTSIDE_FILES", "/var/log,/srv/log"),
        ("WEIR_OUTSIDE_HOSTS", "logs.example.com,*.internal:443"),
        ("WEIR_OUTSIDE_LISTEN", "0.0.0.0:5140"),
        ("WEIR_PUBLIC_METRICS", "true"),
        ("WEIR_LISTEN", "[::]:9000"),
        ("KUBECONFIG", "/etc/kube/config"),
    ] {
        assert_eq!(env(&container, name).as_deref(), Some(value), "{name}");
    }
    let namespace = container.env.unwrap().into_iter().find(|e| e.name == "WEIR_OPERATOR_NAMESPACE").unwrap();
    assert_eq!(namespace.value_from.unwrap().field_ref.unwrap().field_path, "metadata.namespace");
    assert_eq!(container.ports.unwrap()[0].container_port, 9000);
}

#[test]
fn what_is_not_set_is_left_to_the_binary() {
    let container = container(&with(json!({})));
    let names: Vec<_> = container.env.unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(
        names,
        [
            "WEIR_OPERATOR_NAMESPACE",
            "WEIR_LISTEN",
            "WEIR_DRAIN_TIMEOUT",
            "WEIR_LOG_FORMAT",
            "WEIR_LOG",
            "WEIR_ROOT_PATH"
        ]
    );
}

#[rstest]
#[case::by_default(json!({}), "weir:0.1.0")]
#[case::with_a_tag(json!({"repository": "registry.example.com/weir", "tag": "7"}), "registry.example.com/weir:7")]
#[case::with_a_digest(
    json!({"tag": "7", "digest": format!("sha256:{}", "0".repeat(64))}),
    &format!("weir@sha256:{}", "0".repeat(64))
)]
fn the_image_is(#[case] image: Json, #[case] wanted: &str) {
    assert_eq!(container(&with(json!({"image": image}))).image.as_deref(), Some(wanted));
}

#[test]
fn the_version_is_the_crates() {
    let chart = crate::helm::read_yaml(&crate::helm::chart().join("Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn clients_have_time_to_leave_before_the_pod_is_killed() {
    for seconds in [0, 20, 300] {
        let pod = pod(&with(json!({"config": {"drainTimeoutSeconds": seconds}})));
        assert!(pod.termination_grace_period_seconds.unwrap() > seconds);
    }
}

#[test]
fn a_volume_is_mounted_where_history_shall_survive_and_only_one_pod_at_a_time_has_it() {
    let none = with(json!({}));
    assert!(none.objects().iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
    assert_eq!(env(&container(&none), "WEIR_DATA_DIR"), None);
    let values = json!({"persistence": {"enabled": true, "size": "5Gi", "storageClass": "fast"}});
    let rendered = with(values);
    assert_eq!(rendered.one("Deployment")["spec"]["strategy"], json!({"type": "Recreate"}));
    let claim = rendered.one("PersistentVolumeClaim");
    assert_eq!(claim["metadata"]["name"], "weir");
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}},
    });
    assert_eq!(claim["spec"], spec);
    let one = container(&rendered);
    let mount = one.volume_mounts.iter().flatten().find(|mount| mount.name == "data").unwrap();
    assert_eq!(env(&one, "WEIR_DATA_DIR").as_deref(), Some(mount.mount_path.as_str()));
    assert_eq!(pod(&rendered).security_context.unwrap().fs_group, Some(65532), "the volume can be written to");
    let claim_of = |pod: PodSpec| pod.volumes.unwrap().remove(0).persistent_volume_claim.unwrap().claim_name;
    assert_eq!(claim_of(pod(&rendered)), "weir");
    let own = with(json!({"persistence": {"enabled": true, "existingClaim": "mine"}}));
    assert!(own.objects().iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
    assert_eq!(claim_of(pod(&own)), "mine");
}

#[test]
fn uploads_cost_what_the_values_say_and_else_what_the_binary_says() {
    let variables = [
        "WEIR_ALLOW_UNDECLARED_UPLOADS",
        "WEIR_UPLOAD_BYTES",
        "WEIR_UPLOADS_MEMORY",
        "WEIR_UPLOADS_WAITING",
        "WEIR_UPLOADS_DISK_BYTES",
        "WEIR_MAX_UPLOADS",
        "WEIR_UPLOAD_KEEP",
        "WEIR_UPLOAD_STALL",
        "WEIR_UPLOAD_METADATA_BYTES",
    ];
    let set = |values: Json| variables.map(|name| env(&container(&with(values.clone())), name));
    assert!(set(json!({})).iter().all(Option::is_none));
    let uploads = json!({
        "allowUndeclared": true, "bytes": 1_048_576, "memoryBytes": 134_217_728, "waitingBytes": 33_554_432,
        "diskBytes": 10_737_418_240_u64, "max": 500, "keep": "2h", "stall": "10m", "metadataBytes": 1024,
    });
    let expected = ["true", "1048576", "134217728", "33554432", "10737418240", "500", "2h", "10m", "1024"];
    assert_eq!(set(json!({"config": {"uploads": uploads}})), expected.map(|value| Some(value.to_owned())));
    for wrong in [json!({"keep": "an hour"}), json!({"bytes": 1}), json!({"many": 1})] {
        assert!(!schema_errors(&json!({"config": {"uploads": wrong}})).is_empty(), "{wrong}");
    }
}

#[test]
fn an_upgrade_has_no_gap_unless_two_pods_cannot_share_the_node() {
    for (host_network, surge, unavailable) in [(false, 1, 0), (true, 0, 1)] {
        let rendered = with(json!({"hostNetwork": host_network}));
        let rolling = &rendered.one("Deployment")["spec"]["strategy"]["rollingUpdate"];
        assert_eq!((&rolling["maxSurge"], &rolling["maxUnavailable"]), (&json!(surge), &json!(unavailable)));
        assert_eq!(pod(&rendered).host_network, host_network.then_some(true));
    }
}

#[test]
fn the_probes_ask_what_the_endpoint_answers() {
    for (values, scheme) in [(json!({}), "HTTP"), (json!({"tls": {"secretName": "cert"}}), "HTTPS")] {
        let container = container(&with(values));
        for (probe, path) in [(container.liveness_probe, "/livez"), (container.readiness_probe, "/readyz")] {
            let get = probe.unwrap().http_get.unwrap();
            assert_eq!((get.path.as_deref(), get.scheme.as_deref()), (Some(path), Some(scheme)));
        }
    }
}

#[test]
fn tls_files_come_from_the_secret() {
    let rendered = with(json!({"tls": {"secretName": "cert"}, "serviceMonitor": {"enabled": true}}));
    let container = container(&rendered);
    let mount = &container.volume_mounts.as_ref().unwrap()[0];
    assert_eq!((mount.mount_path.as_str(), &mount.sub_path), ("/etc/weir/tls", &None));
    assert_eq!(env(&container, "WEIR_TLS_CERT").as_deref(), Some("/etc/weir/tls/tls.crt"));
    assert_eq!(env(&container, "WEIR_TLS_KEY").as_deref(), Some("/etc/weir/tls/tls.key"));
    let secret = pod(&rendered).volumes.unwrap().remove(0).secret.unwrap();
    assert_eq!((secret.secret_name.as_deref(), secret.default_mode), (Some("cert"), Some(0o440)));
    assert_eq!(rendered.one("ServiceMonitor")["spec"]["endpoints"][0]["scheme"], "https");
}

#[test]
fn the_socket_of_a_docker_engine_is_in_the_pod_only_where_it_is_named() {
    let none = with(json!({"tls": {"secretName": "cert"}}));
    assert_eq!(env(&container(&none), "WEIR_OUTSIDE_DOCKER"), None);
    assert!(pod(&none).volumes.unwrap().iter().all(|volume| volume.host_path.is_none()));

    let rendered = with(json!({
        "config": {"outside": {"docker": "/var/run/docker.sock"}},
        "podSecurityContext": {"supplementalGroups": [998]},
    }));
    let mounts = container(&rendered).volume_mounts.unwrap();
    let [mount] = mounts.as_slice() else { panic!("nothing else is mounted: {mounts:?}") };
    assert_eq!((mount.name.as_str(), mount.read_only), ("docker", Some(true)));
    assert_eq!(env(&container(&rendered), "WEIR_OUTSIDE_DOCKER").as_deref(), Some(mount.mount_path.as_str()));
    let pod = pod(&rendered);
    let volume = pod.volumes.unwrap().remove(0);
    let host = volume.host_path.unwrap();
    assert_eq!((volume.name.as_str(), host.path.as_str()), ("docker", "/var/run/docker.sock"));
    assert_eq!(host.type_.as_deref(), Some("Socket"), "no folder is made where there is no engine");
    let context = pod.security_context.unwrap();
    assert_eq!((context.supplemental_groups, context.run_as_non_root), (Some(vec![998]), Some(true)));
}

#[test]
fn the_pod_takes_what_it_is_given() {
    let pod = pod(&with(json!({
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "extraVolumes": [{"name": "v", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
    })));
    assert_eq!(pod.node_selector.unwrap()["zone"], "a");
    assert_eq!(pod.tolerations.unwrap().len(), 1);
    assert!(pod.affinity.unwrap().node_affinity.is_some());
    assert_eq!(pod.topology_spread_constraints.unwrap()[0].max_skew, 1);
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
    assert_eq!(pod.volumes.unwrap()[0].name, "v");
    assert_eq!(pod.containers[0].volume_mounts.as_ref().unwrap()[0].mount_path, "/v");
}

#[test]
fn the_service_finds_the_pod() {
    let rendered =
        with(json!({"service": {"type": "NodePort", "port": 8443, "nodePort": 30080}, "podLabels": {"team": "a"}}));
    let service: Service = typed(rendered.one("Service"));
    let deployment: Deployment = typed(rendered.one("Deployment"));
    let labels = deployment.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    let spec = service.spec.unwrap();
    assert!(spec.selector.unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)));
    assert_eq!(labels["team"], "a");
    let port = &spec.ports.unwrap()[0];
    assert_eq!((port.port, port.node_port), (8443, Some(30080)));
}

#[test]
fn the_ingress_names_the_service() {
    let rendered = with(json!({"ingress": {
        "enabled": true, "className": "nginx", "annotations": {"a": "b"},
        "hosts": [{"host": "a.example.com"}, {"host": "b.example.com", "path": "/w", "pathType": "Exact"}],
        "tls": [{"secretName": "cert", "hosts": ["a.example.com"]}],
    }}));
    let spec = &rendered.one("Ingress")["spec"];
    assert_eq!(spec["ingressClassName"], "nginx");
    assert_eq!(spec["tls"][0]["secretName"], "cert");
    assert_eq!(spec["rules"][0]["http"]["paths"][0]["path"], "/");
    assert_eq!(spec["rules"][1]["http"]["paths"][0]["pathType"], "Exact");
    assert_eq!(spec["rules"][1]["http"]["paths"][0]["backend"]["service"]["name"], "weir");
}

#[test]
fn the_network_policy_opens_what_weir_needs() {
    let rendered = with(json!({"networkPolicy": {
        "enabled": true,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
    }}));
    let spec = &rendered.one("NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["ingress"][0]["from"].as_array().unwrap().len(), 1);
    let ports: Vec<_> = spec["egress"].as_array().unwrap().iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert_eq!(ports, [&json!(53), &json!(443), &json!(10250), &Json::Null]);
    let proxy = with(json!({"networkPolicy": {"enabled": true}, "metrics": {"scrape": "Proxy"}}));
    assert_eq!(proxy.one("NetworkPolicy")["spec"]["egress"].as_array().unwrap().len(), 2);
    let open = with(json!({"networkPolicy": {"enabled": true}}));
    assert!(open.one("NetworkPolicy")["spec"]["ingress"][0]["from"].is_null());
}

/// policy/v1 came with 1.21, policy/v1beta1 went with 1.25.
#[test]
fn the_disruption_budget_is_of_a_version_that_the_server_has() {
    for (kube_version, wanted) in [("v1.21.0", "policy/v1"), ("v1.20.2", "policy/v1beta1")] {
        let release = Release { kube_version, ..Release::default() };
        let rendered = render(release, &json!({"podDisruptionBudget": {"enabled": true}}));
        assert_eq!(rendered.one("PodDisruptionBudget")["apiVersion"], wanted);
    }
}

#[test]
fn the_notes_say_what_to_do_next() {
    let rendered = with(json!({"namespaces": ["shop"]}));
    let notes = rendered.text("NOTES.txt");
    for part in ["shop,weir-system", "image.repository", "tls.secretName", "http://localhost"] {
        assert!(notes.contains(part), "{part}:\n{notes}");
    }
    let rendered = with(json!({"image": {"repository": "registry.example.com/weir"}, "tls": {"secretName": "cert"}}));
    let notes = rendered.text("NOTES.txt");
    assert!(!notes.contains("image.repository") && !notes.contains("clear text"), "{notes}");
    assert!(notes.contains("whole cluster") && notes.contains("https://localhost"), "{notes}");
}

/// The keys that people and programs set; without additionalProperties: false a typing mistake would be silent.
#[test]
fn the_schema_knows_exactly_the_values_that_there_are() {
    let text = std::fs::read_to_string(crate::helm::chart().join("values.schema.json")).unwrap();
    let schema: Json = serde_json::from_str(&text).unwrap();
    compare("", &schema, &default_values());

    fn compare(path: &str, schema: &Json, values: &Json) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        if path.ends_with("Probe") {
            return;
        }
        assert_eq!(schema["additionalProperties"], false, "{path}");
        let values = values.as_object().unwrap_or_else(|| panic!("{path} is no map"));
        let mut wanted: Vec<_> = properties.keys().filter(|key| *key != "global").collect();
        let mut found: Vec<_> = values.keys().collect();
        wanted.sort();
        found.sort();
        assert_eq!(wanted, found, "{path}");
        for (key, value) in values {
            compare(&format!("{path}/{key}"), &properties[key], value);
        }
    }
}

#[test]
fn the_schema_accepts_the_defaults() {
    assert_eq!(schema_errors(&default_values()), Vec::<String>::new());
}

#[rstest]
#[case::of_a_misspelt_value("/replica", json!(1))]
#[case::of_a_misspelt_option("/config/ringRecord", json!(1))]
#[case::of_two_replicas("/replicas", json!(2))]
#[case::of_a_text_for_a_number("/config/ringBytes", json!("1Mi"))]
#[case::of_an_unknown_log_format("/config/logFormat", json!("yaml"))]
#[case::of_a_namespace_pattern("/namespaces", json!(["team-.*"]))]
#[case::of_a_root_path_without_slash("/config/rootPath", json!("kwirth"))]
#[case::of_an_origin_with_a_path("/config/allowedOrigins", json!(["https://a.example.com/x"]))]
#[case::of_an_address_for_a_host("/config/alertHosts", json!(["https://a.example.com"]))]
#[case::of_a_socket_by_a_relative_path("/config/outside/docker", json!("docker.sock"))]
#[case::of_sockets_in_a_list("/config/outside/docker", json!(["/var/run/docker.sock"]))]
#[case::of_a_port_out_of_range("/listen/port", json!(65536))]
#[case::of_no_image("/image/repository", json!(""))]
#[case::of_a_short_digest("/image/digest", json!("sha256:00"))]
#[case::of_an_ingress_without_host("/ingress/hosts", json!([{"path": "/"}]))]
fn the_schema_tells(#[case] pointer: &str, #[case] value: Json) {
    let mut values = default_values();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    values.pointer_mut(parent).unwrap()[key] = value;
    assert_ne!(schema_errors(&values), Vec::<String>::new());
}
