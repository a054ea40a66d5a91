// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles `probes/` with clang into OUT_DIR, and makes one page of the parts in `src/show`. If that cannot work, it says what is
//! missing.

use miniz_oxide::deflate::compress_to_vec;
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, exit};

/// The sources of the programs: for the hooks of system calls, and for those of the kernel's resolver of names.
const SYSCALLS: &str = "probes/snoop.bpf.c";
const RESOLVER: &str = "probes/resolver.bpf.c";

fn main() {
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-changed=probes");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    if Command::new(&clang).arg("--version").output().is_err() {
        fail(&format!(
            "cannot run {clang}: install clang (Debian, Ubuntu, Fedora, Alpine: package clang), or name another one in CLANG"
        ));
    }
    for header in ["linux/bpf.h", "bpf/bpf_helpers.h"] {
        let mut probe = compiler(&clang);
        probe.args(["-E", "-include", "linux/types.h", "-include", header]);
        probe.args(["-x", "c", "/dev/null"]);
        if !probe.output().is_ok_and(|out| out.status.success()) {
            fail(&format!(
                "cannot find <{header}>: install the libbpf headers (Debian, Ubuntu: libbpf-dev; Fedora: libbpf-devel; Alpine: libbpf-dev and linux-headers)"
            ));
        }
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    make_page(Path::new(&out));
    let object = |name: &str| Path::new(&out).join(name);
    compile(&clang, SYSCALLS, &object("snoop.bpf.o"), &[]);
    compile(&clang, RESOLVER, &object("resolver.bpf.o"), &[]);
    let legacy = object("snoop.legacy.bpf.o");
    compile(&clang, SYSCALLS, &legacy, &["-DSNOOP_LEGACY"]);
    println!("cargo::rustc-env=SNOOP_LEGACY_OBJECT={}", legacy.display());
    for name in ["snoop.bpf.o", "resolver.bpf.o", "snoop.legacy.bpf.o"] {
        pack(&object(name));
    }
    // This one has type information, for the test that compares the two sides of wire.h.
    let typed = object("snoop.debug.bpf.o");
    compile(&clang, SYSCALLS, &typed, &["-g", "-DSNOOP_TYPE_INFO"]);
    println!("cargo::rustc-env=SNOOP_DEBUG_OBJECT={}", typed.display());
}

/// Makes the page, compressed with gzip (RFC 1952), and the policy that lets a browser run only the page's own script.
fn make_page(out: &Path) {
    let read = |name: &str| {
        let path = format!("src/show/page.{name}");
        println!("cargo::rerun-if-changed={path}");
        fs::read_to_string(&path).unwrap_or_else(|e| fail(&format!("cannot read {path}: {e}")))
    };
    let (style, script) = (read("css"), read("js"));
    assert!(!script.contains("</script") && !script.contains("<!--"));
    let digest = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
        digest(&script),
        digest(&style)
    );
    println!("cargo::rustc-env=SNOOP_PAGE_POLICY={policy}");
    let page = read("html")
        .replace("{policy}", &policy)
        .replace("{style}", &style)
        .replace("{script}", &script);
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    packed.extend(compress_to_vec(page.as_bytes(), 10));
    packed.extend(crc32(page.as_bytes()).to_le_bytes());
    packed.extend((page.len() as u32).to_le_bytes());
    fs::write(out.join("page.html.gz"), packed).expect("OUT_DIR can be written");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let byte = |at| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at| match at <= three.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, add)
}

fn compiler(clang: &str) -> Command {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let mut command = Command::new(clang);
    command.args([
        "-target",
        "bpf",
        "-mcpu=v2",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-mllvm",
        "-disable-block-placement",
    ]);
    command.arg(match arch.as_str() {
        "x86_64" => "-D__TARGET_ARCH_x86",
        "aarch64" => "-D__TARGET_ARCH_arm64",
        other => fail(&format!(
            "{other} is not supported, only x86_64 and aarch64"
        )),
    });
    // Debian keeps <asm/types.h> here, which is the same for both. Other distributions do not have these directories.
    for arch in [arch.as_str(), env::consts::ARCH] {
        command.arg(format!("-I/usr/include/{arch}-linux-gnu"));
    }
    command
}

fn compile(clang: &str, source: &str, object: &Path, extra: &[&str]) {
    let run = |command: &mut Command| {
        if !command.status().is_ok_and(|status| status.success()) {
            fail(&format!("clang could not compile {source}"));
        }
    };
    let text = object.with_extension("s");
    let mut command = compiler(clang);
    command.args(extra).args(["-S", source, "-o"]);
    run(command.arg(&text));
    // Without the dot each jump's target becomes a symbol. With it the three objects have 756,640 bytes in place of
    // 942,232, and 103,422 in place of 149,081 once they are packed: 4 % of the static binary.
    if env::var_os("CARGO_FEATURE_DROP_LABELS").is_some() {
        let assembly = fs::read_to_string(&text).expect("clang wrote it");
        fs::write(&text, assembly.replace("LBB", ".LBB")).expect("OUT_DIR can be written");
    }
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-c"]).arg(&text);
    run(command.arg("-o").arg(object));
}

/// Makes OBJECT.deflate: eight bytes with the length of the object, then the object, compressed (RFC 1951).
fn pack(object: &Path) {
    let bytes = fs::read(object).expect("clang wrote it");
    let mut packed = (bytes.len() as u64).to_le_bytes().to_vec();
    packed.extend(compress_to_vec(&bytes, 10));
    fs::write(object.with_extension("o.deflate"), packed).expect("OUT_DIR can be written");
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1);
}
