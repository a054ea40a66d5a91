// SPDX-License-Identifier: MIT OR Apache-2.0
//! How files were used, and in which order.

mod common;

use common::{Report, run_quietly};
use std::fs;
use std::path::Path;

/// Uses files of one directory. The comments are the kinds and names that the report must list.
const PROGRAM: &str = r"
import mmap, os, socket, sys
os.chdir(sys.argv[1])
os.stat('stat')                                        # l stat
os.readlink('link')                                    # l link
os.close(os.open('path', os.O_PATH))                   # l path
os.close(os.open('read', os.O_RDONLY))                 # r read
os.close(os.open('directory', os.O_RDONLY))            # r directory
os.close(os.open('write', os.O_WRONLY))                # w write
os.close(os.open('both', os.O_RDWR))                   # rw both
os.close(os.open('create', os.O_CREAT))                # rw create
os.close(os.open('truncate', os.O_TRUNC))              # rw truncate
os.mkdir('mkdir')                                      # w mkdir
os.chmod('chmod', 0o600)                               # w chmod
os.symlink('anywhere', 'symlink')                      # w symlink
os.rename('old', 'new')                                # w old, w new
os.unlink('unlink')                                    # w unlink
socket.socket(socket.AF_UNIX).bind('bind')             # w bind
os.stat('several')
os.close(os.open('several', os.O_RDWR))
os.close(os.open('several', os.O_RDONLY))              # lrw several
data = os.open('data', os.O_RDONLY)
mmap.mmap(data, 1, prot=mmap.PROT_READ)                # r data
library = os.open('library', os.O_RDONLY)
executable = mmap.PROT_READ | mmap.PROT_EXEC
mmap.mmap(library, 1, mmap.MAP_PRIVATE, executable)    # rm library
os.posix_spawn('./script', ['script'], {})             # rx script
os.wait()
";

/// Returns the lines of a container that name a file in a directory: its kinds and its name, in the order of the first uses.
fn uses(report: &Report, directory: &Path) -> Vec<(String, String)> {
    let [container] = &report.json["containers"].as_array().unwrap()[..] else {
        panic!("there is more than one container");
    };
    let column = |name: &str| container[name].as_array().unwrap().iter();
    let rows = column("files")
        .zip(column("kinds"))
        .zip(column("first_use_ms"));
    let mut uses: Vec<_> = rows
        .filter_map(|((file, kinds), first)| {
            let name = Path::new(file.as_str()?).strip_prefix(directory).ok()?;
            let name = name.to_str().filter(|name| !name.is_empty())?;
            Some((
                first.as_f64()?,
                kinds.as_str()?.to_string(),
                name.to_string(),
            ))
        })
        .collect();
    uses.sort_by(|one, other| one.0.total_cmp(&other.0));
    uses.into_iter()
        .map(|(_, kinds, name)| (kinds, name))
        .collect()
}

/// Returns the kinds and names in the comments of the program.
fn expected() -> Vec<(String, String)> {
    let comments = PROGRAM.lines().filter_map(|line| line.split_once("# "));
    let uses = comments.flat_map(|(_, comment)| comment.split(", "));
    let uses = uses.map(|used| used.split_once(' ').expect("kinds and a name"));
    uses.map(|(kinds, name)| (kinds.into(), name.into()))
        .collect()
}

#[test]
fn each_file_is_listed_with_its_kinds_in_the_order_of_first_uses() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    for name in [
        "stat", "path", "read", "write", "both", "truncate", "chmod", "old", "unlink", "several",
        "data", "library",
    ] {
        fs::write(top.join(name), "x").unwrap();
    }
    fs::create_dir(top.join("directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", top.join("link")).unwrap();
    fs::write(top.join("script"), "#!/bin/sh\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(top.join("script"), executable).unwrap();

    let program = ["/usr/bin/python3", "-c", PROGRAM, top.to_str().unwrap()];
    let report = run_quietly(&[], &program);
    report.assert_complete();
    assert_eq!(uses(&report, &top), expected());
}

#[test]
fn programs_interpreters_loaders_and_libraries_are_executed_or_mapped() {
    let report = run_quietly(
        &[],
        &["/bin/sh", "-c", "/usr/bin/cat /etc/hostname >/dev/null"],
    );
    let uses = uses(&report, Path::new("/"));
    let kinds_of = |part: &str| {
        let found = uses.iter().find(|(_, name)| name.contains(part));
        found
            .unwrap_or_else(|| panic!("{part} is not in {uses:?}"))
            .0
            .clone()
    };
    assert_eq!(kinds_of("bin/sh"), "x");
    assert!(kinds_of("bin/cat").ends_with('x'));
    assert_eq!(kinds_of("/ld-linux"), "m");
    assert_eq!(kinds_of("usr/lib/x86_64-linux-gnu/libc.so.6"), "rm");
    assert_eq!(kinds_of("etc/hostname"), "r");
    assert!(uses[0].1.ends_with("sh"), "{uses:?}");
}
