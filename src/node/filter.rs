// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which containers of a node are traced, by the names of their namespaces, pods and images.

use crate::node::names::Identity;
use crate::path::fits;

/// Patterns of names, as `-pods` and its like take them. A name has to fit one of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Reads patterns that are separated by commas.
    pub fn parse(list: &str) -> Patterns {
        let patterns = list.split(',').map(str::trim).filter(|p| !p.is_empty());
        Patterns(patterns.map(String::from).collect())
    }

    fn fit(&self, name: &str) -> bool {
        let mut patterns = self.0.iter();
        patterns.any(|pattern| fits(name.as_bytes(), pattern.as_bytes()))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub namespaces: Patterns,
    pub not_namespaces: Patterns,
    pub pods: Patterns,
    pub images: Patterns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    Trace,
    /// A name is needed that is not known yet.
    Withhold,
    Exclude,
}

impl Filter {
    /// Decides on a container. A name that is unknown may turn out to be any.
    pub fn decide(&self, identity: &Identity) -> Decision {
        if identity.is_infrastructure {
            return Decision::Exclude;
        }
        let pod = identity.pod.as_ref();
        let namespace = pod.map(|pod| pod.namespace.as_str());
        let pod = pod.map(|pod| pod.name.as_str());
        let image = identity.image.as_deref();
        let wanted = |patterns: &Patterns, name: Option<&str>| match name {
            _ if patterns.0.is_empty() => Decision::Trace,
            None => Decision::Withhold,
            Some(name) if patterns.fit(name) => Decision::Trace,
            Some(_) => Decision::Exclude,
        };
        let unwanted = match namespace {
            _ if self.not_namespaces.0.is_empty() => Decision::Trace,
            None => Decision::Withhold,
            Some(name) if self.not_namespaces.fit(name) => Decision::Exclude,
            Some(_) => Decision::Trace,
        };
        let decisions = [
            wanted(&self.namespaces, namespace),
            unwanted,
            wanted(&self.pods, pod),
            wanted(&self.images, image),
        ];
        decisions.into_iter().max().expect("there are four")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema::PodEntry;

    fn web() -> Identity {
        Identity {
            pod: Some(PodEntry {
                namespace: "shop".into(),
                name: "web-0".into(),
                uid: String::new(),
            }),
            image: Some("docker.io/library/nginx:1.27".into()),
            ..Identity::default()
        }
    }

    fn decide(change: impl FnOnce(&mut Filter), identity: &Identity) -> Decision {
        let mut filter = Filter::default();
        change(&mut filter);
        filter.decide(identity)
    }

    #[test]
    fn each_flag_decides_by_its_own_name() {
        let set = [
            |filter: &mut Filter, patterns| filter.namespaces = patterns,
            |filter: &mut Filter, patterns| filter.pods = patterns,
            |filter: &mut Filter, patterns| filter.images = patterns,
        ];
        let fitting = ["x,shop", "web-[0-9]", "*nginx:*"];
        for (set, patterns) in set.iter().zip(fitting) {
            let decide = |patterns| decide(|f| set(f, Patterns::parse(patterns)), &web());
            assert_eq!(decide(patterns), Decision::Trace, "{patterns}");
            assert_eq!(decide("other*"), Decision::Exclude, "{patterns}");
            assert_eq!(decide(" , "), Decision::Trace);
        }
        let not = |patterns| decide(|f| f.not_namespaces = Patterns::parse(patterns), &web());
        assert_eq!(not("shop"), Decision::Exclude);
        assert_eq!(not("kube-*"), Decision::Trace);
    }

    #[test]
    fn a_container_without_the_names_is_withheld() {
        let unknown = Identity::default();
        assert_eq!(Filter::default().decide(&unknown), Decision::Trace);
        let not = |f: &mut Filter| f.not_namespaces = Patterns::parse("kube-system");
        assert_eq!(decide(not, &unknown), Decision::Withhold);
        let images = |f: &mut Filter| f.images = Patterns::parse("*");
        assert_eq!(decide(images, &unknown), Decision::Withhold);
        // One name that does not fit is enough.
        let both = |f: &mut Filter| {
            f.images = Patterns::parse("*");
            f.pods = Patterns::parse("db-*");
        };
        let nameless = Identity {
            image: None,
            ..web()
        };
        assert_eq!(decide(both, &nameless), Decision::Exclude);
    }

    #[test]
    fn pause_containers_are_never_traced() {
        let pause = Identity {
            is_infrastructure: true,
            ..web()
        };
        assert_eq!(Filter::default().decide(&pause), Decision::Exclude);
    }
}
