//! A real Prometheus that scrapes one address every second and evaluates our rules.

use harness::netns::die_with_test;
use harness::tools::Tool;
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for it to come up.
const START_MAX: Duration = Duration::from_secs(30);

/// A running Prometheus. Ends, and its data go, when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _data: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `target`.
    pub(crate) fn scraping(target: SocketAddr) -> Prometheus {
        let data = TempDir::new().unwrap();
        let config = data.path().join("prometheus.yml");
        let rules = crate::file("slowpod.rules.yml").canonicalize().unwrap();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n  - job_name: slowpod\n    static_configs: [{{targets: [{:?}]}}]\n",
            target.to_string()
        );
        std::fs::write(&config, text).unwrap();
        // Free a moment ago; nobody else on this machine is handed it so soon.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(Tool::Prometheus.require());
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null());
        let child = die_with_test(&mut command).spawn().unwrap();
        let prometheus = Prometheus { child, address, _data: data };
        let begun = Instant::now();
        while ureq::get(format!("http://{address}/-/ready")).call().is_err() {
            assert!(begun.elapsed() < START_MAX, "Prometheus does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        prometheus
    }

    /// The series an expression gives now.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = self.get("query", &[("query", expression)])?;
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// Every rule it knows: name, query, type, health, last error.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.get("rules", &[]).expect("the rules");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut request = ureq::get(format!("http://{}/api/v1/{what}", self.address))
            .config()
            .http_status_as_error(false)
            .build();
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        let mut response = request.call().map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if answer["status"] == "success" { Ok(answer) } else { Err(answer["error"].to_string()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
