//! Names for subscriptions that nobody named: readable, safe, each its own, and the same tomorrow.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The longest name, so that it fits wherever names of objects go.
const LONGEST: usize = 63;
/// Hex digits that tell apart what would be called the same.
const DIGITS: usize = 8;

/// Names for these texts, in their order. Each text is different; so is each name.
///
/// A name depends on its text, and on whether others would have the same one; never on the order of the file.
pub fn names(texts: &[String]) -> Vec<String> {
    let plain: Vec<_> = texts.iter().map(|text| readable(text)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    plain.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let pairs = plain.iter().zip(texts);
    let named = pairs.map(
        |(name, text)| if name.is_empty() || counts[name.as_str()] > 1 { marked(name, text) } else { name.clone() },
    );
    named.collect()
}

/// The stable identity of what has this name.
pub fn uid(namespace: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("weir.dev/{namespace}/{name}"));
    let hex = hex::encode(&digest[..16]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn marked(name: &str, text: &str) -> String {
    let digits = &hex::encode(Sha256::digest(text))[..DIGITS];
    let room = LONGEST - DIGITS - 1;
    let kept = name[..name.len().min(room)].trim_end_matches(['-', '.']);
    if kept.is_empty() { format!("stream-{digits}") } else { format!("{kept}-{digits}") }
}

/// Lower-case letters, digits, `-` and `.`; what is none of these becomes a `-`.
fn readable(text: &str) -> String {
    let text = text.replace("**", "all").replace('*', "any").to_lowercase();
    let mut name = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | '0'..='9' => name.push(letter),
            '.' if !name.is_empty() && !name.ends_with(['-', '.']) => name.push('.'),
            _ if !name.is_empty() && !name.ends_with(['-', '.']) => name.push('-'),
            _ => {}
        }
    }
    let trimmed = name.trim_end_matches(['-', '.']);
    if trimmed.len() > LONGEST { marked(trimmed, &text) } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(texts: &[&str]) -> Vec<String> {
        names(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_can_be_read_and_never_meet() {
        let named = of(&["/var/log/nginx/*.log", "/srv/**/app.log", "container Web_1", "ÄÖ", "/a/b", "/a-b"]);
        assert_eq!(named[..3], ["var-log-nginx-any.log", "srv-all-app.log", "container-web-1"]);
        assert!(named[3].starts_with("stream-"), "{named:?}");
        assert!(named[4].starts_with("a-b-") && named[5].starts_with("a-b-") && named[4] != named[5], "{named:?}");
    }

    #[test]
    fn the_identity_of_a_name_stays_the_same() {
        assert_eq!(uid("default", "orders"), uid("default", "orders"));
        assert_ne!(uid("default", "orders"), uid("default", "order"));
        assert_eq!(uid("default", "orders").len(), 36);
    }

    proptest! {
        #[test]
        fn whatever_is_written_becomes_names_that_objects_may_have(
            texts in proptest::collection::btree_set(".{0,90}", 1..8)
        ) {
            let texts: Vec<String> = texts.into_iter().collect();
            let named = names(&texts);
            let mut reversed = names(&texts.iter().rev().cloned().collect::<Vec<_>>());
            reversed.reverse();
            prop_assert_eq!(&named, &reversed);
            let set: std::collections::BTreeSet<_> = named.iter().collect();
            prop_assert_eq!(set.len(), texts.len(), "{:?} {:?}", texts, named);
            for name in &named {
                let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
                prop_assert!(name.len() <= LONGEST && edge(name.chars().next()) && edge(name.chars().last()), "{}", name);
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)));
            }
        }
    }
}
