//! The pods whose logs are read: busybox and its shell, which every node runs. They end by themselves after an hour.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use serde_json::json;

use crate::Problem;

/// The image of the writers; `hack/cluster` has it, and any busybox will do.
const IMAGE: &str = "weir.test/busybox:1";

/// How a line of the whole log begins.
pub fn number(line: u64) -> String {
    format!("{line:08} ")
}

/// Makes and removes pods in a namespace.
pub struct Writers {
    namespaces: Api<Namespace>,
    pods: Api<Pod>,
    pub namespace: String,
    image: String,
}

impl Writers {
    /// Makes the namespace where it is missing.
    pub async fn new(client: Client, namespace: &str) -> Result<Self, Problem> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        match namespaces.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        until(Duration::from_secs(30), "the namespace is ready (is it being deleted?)", || async {
            Ok(accounts.get_opt("default").await?.is_some())
        })
        .await?;
        let image = std::env::var("WEIR_BENCH_IMAGE").unwrap_or_else(|_| IMAGE.into());
        Ok(Self { namespaces, pods: Api::namespaced(client, namespace), namespace: namespace.into(), image })
    }

    /// Removes the namespace and all in it.
    pub async fn remove(&self) -> Result<(), Problem> {
        self.namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// A pod that has written `lines` lines of 100 bytes, and waits.
    pub async fn written(&self, lines: u64) -> Result<String, Problem> {
        let name = format!("written-{lines}");
        let text = "GET /api/v1/carts/42 200 12ms bytes=1830 trace=af31c09be7d2 user=4711 region=eu ok ok ok ok";
        // The last lines stand apart: a follow begins with the second of the last line, because the API server knows
        // no smaller step, and a second of this writer is most of the log.
        let (most, pause) = (lines.saturating_sub(20), 2);
        let write = format!("for (; i <= n; i++) printf \"%08d %-91.91s\\n\", i, \"{text}\"");
        let script = format!(
            "awk -v i=1 -v n={most} 'BEGIN {{ {write} }}'; sleep {pause}; \
             awk -v i={} -v n={lines} 'BEGIN {{ {write} }}'; sleep 3600",
            most + 1
        );
        self.run(&name, "written", &script).await?;
        let tail = LogParams { tail_lines: Some(1), ..LogParams::default() };
        until(Duration::from_secs(180), "the log is written", || async {
            // The pod may not have started yet.
            Ok(self.pods.logs(&name, &tail).await.is_ok_and(|line| line.starts_with(&number(lines))))
        })
        .await?;
        Ok(name)
    }

    /// A pod that writes a line, waits this long, and so on.
    pub async fn steady(&self, name: &str, every: Duration) -> Result<(), Problem> {
        self.run(name, "steady", &paced(every)).await?;
        self.wait_for(&[name.to_owned()], "steady", Duration::from_secs(60)).await?;
        Ok(())
    }

    /// Many such pods; the names of those that run in time.
    pub async fn many(&self, count: usize, every: Duration) -> Result<Vec<String>, Problem> {
        let names: Vec<String> = (1..=count).map(|at| format!("many-{at}")).collect();
        let script = paced(every);
        for name in &names {
            self.run(name, "many", &script).await?;
        }
        // One node starts a few pods a second.
        let patience = Duration::from_secs(60) + Duration::from_secs(4) * count as u32;
        self.wait_for(&names, "many", patience).await
    }

    /// Removes the pods of a kind, without waiting.
    pub async fn delete(&self, kind: &str) -> Result<(), Problem> {
        let now = DeleteParams::default().grace_period(0);
        self.pods.delete_collection(&now, &ListParams::default().labels(&format!("kind={kind}"))).await?;
        Ok(())
    }

    async fn run(&self, name: &str, kind: &str, script: &str) -> Result<(), Problem> {
        let pod = json!({"metadata": {"name": name, "labels": {"kind": kind}},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 3600,
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": self.image, "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script]}]}});
        match self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await {
            Ok(_) => Ok(()),
            // Left by a run with --keep.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Those of the pods that run, once all do or the time is over.
    async fn wait_for(&self, names: &[String], kind: &str, patience: Duration) -> Result<Vec<String>, Problem> {
        let begin = Instant::now();
        loop {
            let list = self.pods.list(&ListParams::default().labels(&format!("kind={kind}"))).await?;
            let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            let running = list.items.into_iter().filter(runs).filter_map(|pod| pod.metadata.name);
            let running: Vec<String> = running.filter(|name| names.contains(name)).collect();
            if running.len() == names.len() || (begin.elapsed() > patience && !running.is_empty()) {
                return Ok(running);
            }
            if begin.elapsed() > patience {
                return Err(format!("none of the pods of kind {kind} runs; see `kubectl describe pod`").into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// A loop of the shell alone, which starts no process for each line: it waits for input that never comes.
fn paced(every: Duration) -> String {
    let wait = every.as_secs_f64();
    let text = "level=info shipped order to customer region=eu-central-1 took=12ms";
    format!("mkfifo /w; exec 3<>/w; i=0; while :; do i=$((i+1)); echo \"n=$i {text}\"; read -t {wait} x <&3; done")
}

async fn until<F: Future<Output = Result<bool, Problem>>>(
    patience: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<(), Problem> {
    let begin = Instant::now();
    while !attempt().await? {
        if begin.elapsed() > patience {
            return Err(format!("waited in vain: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
