// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responses for the paths of the listener: `/metrics`, `/healthz` and `/report`, and the page at `/`.

use super::Tracer;
use crate::bpf::counts::Counts;
use crate::error::{Result, cannot};
use crate::http::request::split_query;
use crate::http::{Body, Response};
use crate::log::{self, Level};
use crate::metrics::{self, Scrape};
use crate::node::Node;
use crate::report::file::Destination;
use crate::show::page;
use crate::sys::files;
use std::fs::File;
use std::io::{self, Seek};

/// The number of intervals in a row in which records may wait without any being taken.
const STUCK_AFTER: u32 = 3;

const JSON: &str = "application/json";

/// Finds out whether the ring buffer is being drained. It is updated once per interval.
#[derive(Default)]
pub struct Progress {
    taken: u64,
    /// The number of intervals in a row in which records waited and none was taken.
    stalled_intervals: u32,
}

impl Progress {
    /// Notes how many records the programs have sent, and how many have been taken.
    pub fn note(&mut self, sent: u64, taken: u64) {
        let is_stalled = sent > taken && taken == self.taken;
        self.stalled_intervals = if is_stalled {
            self.stalled_intervals + 1
        } else {
            0
        };
        self.taken = taken;
    }

    fn is_stuck(&self) -> bool {
        self.stalled_intervals >= STUCK_AFTER
    }
}

impl Tracer {
    /// Answers a request for a path.
    pub(super) fn answer(&mut self, target: &str) -> Response {
        let (path, query) = split_query(target);
        if let Err(e) = self.take_all() {
            log::error(e);
        }
        let response = match path {
            "/metrics" => self.metrics(),
            "/healthz" => Ok(self.health()),
            "/reports" if self.node.is_some() => self.reports(),
            "/report" if self.node.is_some() => self.report_of(&query),
            "/report" => self.report(),
            "/" if self.node.is_none() => Ok(page()),
            _ => Ok(Response::text(404, &self.paths())),
        };
        response.unwrap_or_else(|e| {
            log::error(format_args!("cannot answer a request for {path}: {e}"));
            Response::text(500, "snoop cannot answer this request; its log says why")
        })
    }

    fn paths(&self) -> String {
        let report = match &self.node {
            None => "/, /report",
            Some(_) => "/reports, /report?image=NAME, /report?pod=NAME&namespace=NAME",
        };
        format!("not found; the paths are {report}, /metrics and /healthz")
    }

    /// Lists the reports of a node.
    fn reports(&mut self) -> Result<Response> {
        let counts = self.count()?;
        self.write_reports(&counts)?;
        let list = self.node.as_ref().map(Node::list).unwrap_or_default();
        Ok(Response {
            status: 200,
            content_type: JSON,
            further: "",
            body: Body::Bytes(format!("{list:#}\n").into_bytes()),
        })
    }

    /// Returns one report of a node.
    fn report_of(&mut self, query: &[(String, String)]) -> Result<Response> {
        let counts = self.count()?;
        let get = |name: &str| {
            let mut pairs = query.iter();
            let found = pairs.find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        if get("image").is_some() {
            self.write_reports(&counts)?;
        }
        let node = self.node.as_ref().expect("there is a node");
        let found = match (get("image"), get("pod")) {
            (Some(image), None) => node.report_of_image(image, &counts),
            (None, Some(pod)) => node.report_of_pod(get("namespace"), pod, &counts),
            _ => Err((
                400,
                "give image=NAME, or pod=NAME and namespace=NAME".into(),
            )),
        };
        Ok(match found {
            Err((status, why)) => Response::text(status, &why),
            Ok(file) => Response {
                status: 200,
                content_type: JSON,
                further: "",
                body: Body::File(file),
            },
        })
    }

    fn metrics(&mut self) -> Result<Response> {
        let counts = self.count()?;
        let text = metrics::render(&Scrape {
            collector: &self.collector,
            node: self.node.as_ref(),
            counts: &counts,
            report_writes: self.writes.done,
            report_write_errors: self.writes.failed,
            started_at: self.started_at,
        });
        Ok(Response {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            further: "",
            body: Body::Bytes(text.into_bytes()),
        })
    }

    fn health(&self) -> Response {
        if !self.probe.is_alive() {
            return Response::text(
                503,
                "the BPF programs are not running: nothing is being traced",
            );
        }
        if let Some(why) = &self.writes.failure {
            let why = format!("the last report could not be written: {why}");
            return Response::text(503, &why);
        }
        if self.progress.is_stuck() {
            return Response::text(503, "the ring buffer is not being drained");
        }
        let lost = self.probe.lost().iter();
        let lost: String = lost
            .map(|lost| format!("; without {}: {}", lost.feature.name(), lost.why))
            .collect();
        Response::text(200, &format!("ok{lost}; hooks: {}", self.hooks))
    }

    /// Returns the current report: the updated file, or a copy in memory if the file cannot be written.
    fn report(&mut self) -> Result<Response> {
        let counts = self.count()?;
        // At this level, the requests of clients cannot fill the log.
        self.write_if_changed(&counts, Level::Debug);
        let written = match &self.config.report {
            Destination::File(file) if self.writes.failure.is_none() => file.open_written(),
            _ => None,
        };
        let file = match written {
            Some(file) => file,
            None => self
                .copy(&counts)
                .map_err(|e| cannot("copy the report into memory", e))?,
        };
        Ok(Response {
            status: 200,
            content_type: JSON,
            further: "",
            body: Body::File(file),
        })
    }

    fn copy(&self, counts: &Counts) -> io::Result<File> {
        let mut file = files::memory_file()?;
        self.snapshot(counts)
            .write(&mut io::BufWriter::new(&mut file))?;
        file.rewind()?;
        Ok(file)
    }
}

/// Returns the page that shows the report, live.
fn page() -> Response {
    Response {
        status: 200,
        content_type: "text/html; charset=utf-8",
        further: page::HEADERS,
        body: Body::Static(page::COMPRESSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes each pair. Returns for each whether the ring was stuck after it.
    fn stuck_after(notes: &[(u64, u64)]) -> Vec<bool> {
        let mut progress = Progress::default();
        let mut note = |(sent, taken): &(u64, u64)| {
            progress.note(*sent, *taken);
            progress.is_stuck()
        };
        notes.iter().map(&mut note).collect()
    }

    #[test]
    fn an_idle_ring_is_not_stuck() {
        assert_eq!(stuck_after(&[(0, 0); 5]), [false; 5]);
        assert_eq!(stuck_after(&[(9, 9); 5]), [false; 5]);
    }

    #[test]
    fn a_ring_that_is_slowly_drained_is_not_stuck() {
        let notes = [(20, 12), (30, 25), (40, 26), (50, 27), (60, 28)];
        assert_eq!(stuck_after(&notes), [false; 5]);
    }

    #[test]
    fn a_ring_that_is_not_drained_is_stuck_after_three_intervals() {
        let notes = [(30, 25), (30, 25), (31, 25), (40, 25), (40, 25)];
        assert_eq!(stuck_after(&notes), [false, false, false, true, true]);
    }

    #[test]
    fn a_ring_that_is_drained_again_is_no_longer_stuck() {
        let notes = [(30, 25), (30, 25), (31, 25), (40, 25), (40, 26), (40, 40)];
        let stuck = stuck_after(&notes);
        assert_eq!(stuck, [false, false, false, true, false, false]);
    }
}
