// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a container runtime reads and mounts by itself. No report lists it, because no process of the container uses it.

use crate::error::Result;
use crate::image::{Paths, View};

/// Where a runtime looks up the user that a container runs as, its groups and its home directory.
pub const PASSWD: &str = "/etc/passwd";
pub const GROUP: &str = "/etc/group";
/// Where engines and the kubelet mount something.
const MOUNT_POINTS: [&str; 6] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
];

/// Returns what the mount points need in the image: those of every container, and those that reports name.
pub fn mount_points(image: &mut impl View, reported: &Paths) -> Result<Paths> {
    let mut needed = Paths::default();
    let reported = reported.iter().map(Vec::as_slice);
    for path in MOUNT_POINTS.map(str::as_bytes).into_iter().chain(reported) {
        image.follow_if_there(path, &mut needed)?;
    }
    Ok(needed)
}

/// Returns all that a runtime reads or mounts, as far as the image has it, and where programs expect to be able to write.
pub fn needed(image: &mut impl View, reported: &Paths) -> Result<Paths> {
    let mut needed = mount_points(image, reported)?;
    for path in [PASSWD, GROUP, "/tmp"] {
        image.follow_if_there(path.as_bytes(), &mut needed)?;
    }
    Ok(needed)
}
