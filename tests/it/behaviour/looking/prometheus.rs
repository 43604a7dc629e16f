//! A real Prometheus, from Debian, reads what the server exports and the rules that come with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{get, start};
use crate::common::{Client, eventually};

/// Debian's Prometheus scrapes the server, and its promtool reads rules, tests and metrics.
#[test]
fn a_real_prometheus_scrapes_it_and_finds_no_fault_in_metrics_and_rules() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: there is no promtool here (Debian's package prometheus)");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (server, http) = start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    promtool(&["check", "config", "prometheus.yml"], &rules, "");
    promtool(&["test", "rules", "alerts_test.yml"], &rules, "");
    let page = get(http, "/metrics");
    let (_, metrics) = page.split_once("\r\n\r\n").expect("a body");
    promtool(&["check", "metrics"], &rules, metrics);

    let mut prometheus = Prometheus::start(dir.path(), http);
    for (query, value) in [
        ("up", "1"),
        ("post_gres_rs_wal_records_total", "1"),
        ("post_gres_rs_command_duration_seconds_count{command=\"set\"}", "1"),
        ("count(process_open_fds)", "1"),
    ] {
        eventually(query, || prometheus.asked(query).ends_with(&format!("\"{value}\"]}}]}}}}")));
    }
    for query in dashboard() {
        let answer = prometheus.asked(&query);
        assert!(answer.contains("\"status\":\"success\""), "{query}: {answer}");
    }
    server.stop();
}

/// The queries of the dashboard, with its variables as they may be.
fn dashboard() -> Vec<String> {
    let text = include_str!("../../../../packaging/grafana/post-gres-rs.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let query = |target: &serde_json::Value| {
        let query = target["expr"].as_str().expect("a query");
        query.replace("$__rate_interval", "1m").replace("$job", "a").replace("$instance", ".+")
    };
    let queries: Vec<String> = targets.map(query).collect();
    assert!(queries.len() > 20, "the dashboard shows something");
    queries
}

fn promtool(arguments: &[&str], at: &Path, input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(at);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it is there");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    assert!(arguments != ["check", "metrics"] || said.is_empty(), "it finds fault: {said}");
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// One that scrapes the server at `target` each second.
    fn start(dir: &Path, target: SocketAddr) -> Prometheus {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: a\n    static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        fs::write(&config, text).expect("a file");
        // It takes no port 0; this one was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        let child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        Prometheus { child: child.expect("it is there, as promtool is"), address }
    }

    /// The answer to a query; nothing while it does not listen.
    fn asked(&mut self, query: &str) -> String {
        assert!(self.child.try_wait().expect("our child").is_none(), "it has ended");
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let text = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        let Ok(mut socket) = TcpStream::connect(self.address) else { return String::new() };
        let mut answer = String::new();
        match socket.write_all(text.as_bytes()).and_then(|()| socket.read_to_string(&mut answer)) {
            Ok(_) => answer.trim_end().to_owned(),
            Err(_) => String::new(),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
