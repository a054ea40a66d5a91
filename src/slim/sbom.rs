// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of the image as CycloneDX 1.6, with what the reports say about each: whether it was used, and which of its
//! files were.
//!
//! The same image and reports give the same bytes: there is no timestamp, and the serial number is a digest.

use crate::archive::digest::Digest;
use crate::report::schema::encode_name;
use crate::slim::input::Found;
use crate::slim::layers::{Id, Layers};
use crate::slim::scanners::{Inventory, Kind, Package, field, text_of};
use crate::slim::write::object;
use serde_json::Value;
use std::collections::HashSet;

const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";

/// What a list of packages is made of.
pub struct Sbom<'a> {
    pub image: &'a Found,
    pub layers: &'a Layers,
    pub inventory: &'a Inventory,
    /// The digests of the reports.
    pub reports: &'a [Digest],
    /// The reports lack nothing. Else a package that they do not list may have been used all the same.
    pub is_complete: bool,
}

/// The distribution, by its os-release.
struct Distribution {
    id: String,
    version: String,
}

impl Distribution {
    fn of(os_release: &[u8]) -> Distribution {
        let value = |name: &[u8]| text_of(field(os_release, name)).replace(['"', '\''], "");
        Distribution {
            id: value(b"ID="),
            version: value(b"VERSION_ID="),
        }
    }
}

impl Sbom<'_> {
    pub fn document(&self) -> Value {
        let distribution = Distribution::of(&self.inventory.os_release);
        let mut components = Vec::new();
        if !distribution.id.is_empty() {
            components.push(component(
                "operating-system",
                &distribution.id,
                &distribution.version,
            ));
        }
        let mut known = HashSet::new();
        for package in &self.inventory.packages {
            let purl = purl(package, &distribution);
            // A package may be there several times, in several places.
            let mut reference = purl.clone();
            for copy in 2.. {
                if known.insert(reference.clone()) {
                    break;
                }
                reference = format!("{purl}#{copy}");
            }
            components.push(self.package(package, purl, reference));
        }
        let mut document = object(vec![
            ("$schema", SCHEMA.into()),
            ("bomFormat", "CycloneDX".into()),
            ("specVersion", "1.6".into()),
            ("serialNumber", self.serial_number().into()),
            ("version", 1.into()),
            ("metadata", self.metadata()),
            ("components", components.into()),
        ]);
        if !self.inventory.unread.is_empty() {
            let unread = object(vec![
                ("aggregate", "incomplete".into()),
                ("assemblies", vec![Value::from(self.reference())].into()),
            ]);
            document["compositions"] = vec![unread].into();
        }
        document
    }

    fn package(&self, package: &Package, purl: String, reference: String) -> Value {
        let mut described = component("library", &package.name, &package.version);
        described["bom-ref"] = reference.into();
        described["purl"] = purl.into();
        let used = package.used.as_deref();
        match used {
            Some([]) if self.is_complete => described["scope"] = "excluded".into(),
            Some([_, ..]) => described["scope"] = "required".into(),
            // Nobody knows. A reader takes it for required.
            _ => (),
        }
        if let Some(used @ [_, ..]) = used {
            let occurrence = |node: &Id| {
                let path = self.layers.path(*node);
                object(vec![("location", encode_name(&path).into_owned().into())])
            };
            let occurrences = used.iter().map(occurrence).collect();
            described["evidence"] = object(vec![("occurrences", occurrences)]);
        }
        described
    }

    fn reference(&self) -> String {
        self.image.digest.to_string()
    }

    fn metadata(&self) -> Value {
        let tool = component("application", "snoop", env!("CARGO_PKG_VERSION"));
        let digest = self.reference();
        let name = self.image.names.first().unwrap_or(&digest);
        let mut image = component("container", name, &digest);
        image["bom-ref"] = digest.as_str().into();
        let property = |(name, value): (&str, String)| {
            object(vec![("name", name.into()), ("value", value.into())])
        };
        let reports = self.reports.iter();
        let mut properties: Vec<_> = reports
            .map(|digest| ("snoop:report", digest.to_string()))
            .collect();
        let unread = self.inventory.unread.iter();
        properties.extend(unread.map(|path| ("snoop:unread", path.clone())));
        image["properties"] = properties.into_iter().map(property).collect();
        object(vec![
            ("tools", object(vec![("components", vec![tool].into())])),
            ("component", image),
        ])
    }

    /// Returns a UUID of the kind that its maker defines (version 8), from the digests.
    fn serial_number(&self) -> String {
        let all: Vec<_> = self.reports.iter().map(Digest::to_string).collect();
        let all = format!("{} {}", self.image.digest, all.join(" "));
        let hex = Digest::of(all.as_bytes()).hex();
        format!(
            "urn:uuid:{}-{}-8{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..15],
            &hex[15..18],
            &hex[18..30]
        )
    }
}

fn component(kind: &str, name: &str, version: &str) -> Value {
    let mut described = object(vec![("type", kind.into()), ("name", name.into())]);
    if !version.is_empty() {
        described["version"] = version.into();
    }
    described
}

/// Returns the package URL, by which scanners know a package.
fn purl(package: &Package, distribution: &Distribution) -> String {
    let (kind, name) = match package.kind {
        Kind::Deb => ("deb", format!("{}/{}", distribution.id, package.name)),
        Kind::Apk => ("apk", format!("{}/{}", distribution.id, package.name)),
        Kind::PyPi => ("pypi", package.name.to_lowercase().replace('_', "-")),
        Kind::Npm => ("npm", package.name.clone()),
        Kind::Gem => ("gem", package.name.clone()),
    };
    let name: Vec<_> = name.split('/').map(encoded).collect();
    let name = name.join("/");
    let mut purl = format!("pkg:{kind}/{}", name.trim_start_matches('/'));
    if !package.version.is_empty() {
        purl += &format!("@{}", encoded(&package.version));
    }
    let release = match (&*distribution.id, &*distribution.version) {
        ("", _) | (_, "") => String::new(),
        (id, version) => format!("{id}-{version}"),
    };
    let is_of_distribution = matches!(package.kind, Kind::Deb | Kind::Apk);
    let source = match package.source == package.name {
        true => "",
        false => &package.source,
    };
    let qualifiers = [
        ("arch", &*package.architecture),
        ("distro", if is_of_distribution { &release } else { "" }),
        ("upstream", source),
    ];
    let given = qualifiers.iter().filter(|(_, value)| !value.is_empty());
    let given: Vec<_> = given
        .map(|(key, value)| format!("{key}={}", encoded(value)))
        .collect();
    if !given.is_empty() {
        purl += &format!("?{}", given.join("&"));
    }
    purl
}

/// Text as a part of a package URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            true => encoded.push(byte.into()),
            false => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        let distribution = Distribution::of(b"NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n");
        let none = Distribution::of(b"");
        for (kind, name, [version, architecture, source], expected) in [
            (
                Kind::Deb,
                "libstdc++6",
                ["1:12.2-14+deb12u1~x", "amd64", "gcc-12@12.2"],
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2-14%2Bdeb12u1~x?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2",
            ),
            (
                Kind::Apk,
                "musl",
                ["1.2-r0", "x86_64", "musl"],
                "pkg:apk/debian/musl@1.2-r0?arch=x86_64&distro=debian-12",
            ),
            (
                Kind::PyPi,
                "Typing_Extensions",
                ["4.4", "", ""],
                "pkg:pypi/typing-extensions@4.4",
            ),
            (Kind::Npm, "@a/b", ["1.0.0", "", ""], "pkg:npm/%40a/b@1.0.0"),
            (Kind::Gem, "d", ["", "", ""], "pkg:gem/d"),
        ] {
            let package = Package {
                kind,
                name: name.into(),
                version: version.into(),
                architecture: architecture.into(),
                source: source.into(),
                used: None,
            };
            assert_eq!(purl(&package, &distribution), expected);
            if kind == Kind::Apk {
                assert_eq!(purl(&package, &none), "pkg:apk/musl@1.2-r0?arch=x86_64");
            }
        }
    }
}
