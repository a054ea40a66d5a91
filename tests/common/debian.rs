// SPDX-License-Identifier: MIT OR Apache-2.0
//! Root directories of Debian, which are created once and kept below target/.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The packages of the root that `make test` uses.
pub const SMALL: [&str; 6] = [
    "python3",
    "perl",
    "sqlite3",
    "git",
    "nginx-light",
    "musl-tools",
];
/// A script that creates the applications' data. It runs in the root before anything is traced.
const SET_UP: &str = r#"set -e
mkdir -p /srv/app && cd /srv/app
echo hello >index.html
cat >nginx.conf <<'X'
error_log /tmp/error.log;
pid /tmp/nginx.pid;
events {}
http { access_log off; server { listen 127.0.0.1:18099; root /srv/app; } }
X
echo 'int part(void) { return 40; }' >part.c
echo 'int late(void) { return 2; }' >late.c
cat >main.c <<'X'
#include <dlfcn.h>
#include <stdio.h>
int part(void);
int main(void)
{
	void *late = dlopen("/srv/app/liblate.so", RTLD_NOW);
	int (*add)(void) = (int (*)(void))dlsym(late, "late");
	printf("%d\n", part() + add());
}
X
musl-gcc -shared -fPIC -o libpart.so.1 part.c
musl-gcc -shared -fPIC -o liblate.so late.c
ln -sf libpart.so.1 libpart.so
musl-gcc -o musl main.c -L. -lpart -Wl,-rpath,/srv/app
echo 'class Hello { public static void main(String[] a) { System.out.println("hello " + java.util.List.of(1, 2)); } }' >Hello.java
"#;

/// Returns a Debian root, which is created once and kept.
pub fn debian_root(name: &str, packages: &[&str]) -> PathBuf {
    // Tests of one binary run in parallel.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let root = make(name, None, packages);
    let done = Command::new("chroot")
        .arg(&root)
        .args(["sh", "-c", SET_UP])
        .status();
    assert!(done.unwrap().success(), "{name} cannot be set up");
    root
}

/// Returns a root of this release with only these packages, which is created once and kept.
pub fn release_root(suite: &str, packages: &[&str]) -> PathBuf {
    make(suite, Some(suite), packages)
}

fn make(name: &str, suite: Option<&str>, packages: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/slim")
        .join(name);
    let made = Command::new("scripts/debian-root")
        .arg(&root)
        .args(packages)
        .env("SUITE", suite.unwrap_or_default())
        .status();
    assert!(made.unwrap().success(), "no root {name}");
    root
}
