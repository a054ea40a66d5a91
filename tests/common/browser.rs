// SPDX-License-Identifier: MIT OR Apache-2.0
//! A headless Chromium, driven through chromedriver: https://www.w3.org/TR/webdriver2/.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct Browser {
    driver: Child,
    session: String,
    /// Its profile.
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser that prefers `light` or `dark`.
    pub fn start(scheme: &str) -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_string())
        });
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser {
            driver,
            session: format!(
                "http://127.0.0.1:{}/session",
                port.expect("it says its port")
            ),
            _profile: profile,
        };
        let dark = if scheme == "dark" { 0 } else { 1 };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--blink-settings=preferredColorScheme={dark}"),
            &format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let options = json!({"binary": "/usr/bin/chromium", "args": arguments});
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 120_000, "pageLoad": 120_000},
        });
        let made = browser.post("", &json!({"capabilities": {"alwaysMatch": wanted}}));
        let id = made["sessionId"].as_str().unwrap();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn call(&self, method: &str, command: &str, body: &str) -> Value {
        let mut curl = Command::new("curl")
            .args(["-sS", "--max-time", "180", "--noproxy", "*", "-X", method])
            .args(["-H", "Content-Type: application/json"])
            .args(["--data-binary", "@-"])
            .arg(format!("{}{command}", self.session))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        curl.stdin
            .take()
            .unwrap()
            .write_all(body.as_bytes())
            .unwrap();
        let output = curl.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{command}: {value:#}");
        value
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.call("POST", command, &body.to_string())
    }

    pub fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    /// Sets the size of the page that is shown.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.post("/goog/cdp/execute", &command);
    }

    /// Runs the body of a function in the page, and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Types into the element that a selector finds.
    pub fn type_into(&self, selector: &str, text: &str) {
        let find = json!({"using": "css selector", "value": selector});
        let element = self.post("/element", &find);
        let id = element.as_object().unwrap().values().next().unwrap();
        let id = id.as_str().unwrap();
        self.post(&format!("/element/{id}/value"), &json!({"text": text}));
    }

    /// Returns what the browser complained about since the last call: exceptions, and what the policy blocked.
    pub fn complaints(&self) -> Vec<Value> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which may be gone after a failure.
        let _ = Command::new("curl")
            .args(["-s", "--max-time", "20", "--noproxy", "*", "-X", "DELETE"])
            .arg(&self.session)
            .output();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
