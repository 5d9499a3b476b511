use super::*;

#[test]
fn names_match_as_a_whole() {
    for (pattern, name, expected) in [
        ("cart", "cart", true),
        ("cart", "cart-2", false),
        ("cart", "my-cart", false),
        ("cart", "Cart", false),
        (" cart ", "cart", true),
        ("cart.v1", "cart.v1", true),
        ("cart.v1", "cart-v1", false),
        ("a", "a", true),
        ("cart-.*", "cart-2", true),
        ("cart-.*", "my-cart-2", false),
        ("cart|shop", "cart", true),
        ("cart|shop", "cart2", false),
        ("cart|shop", "myshop", false),
        ("(?i)cart", "CART", true),
        ("^cart$", "cart", true),
        ("^cart", "cart-2", false),
        (".*", "", true),
        (".*", "anything", true),
        (".+", "", false),
        ("(?m)cart", "x\ncart", false),
        ("(?m)^cart$", "x\ncart\ny", false),
        ("cart", "cart\n", false),
        ("cart.?", "cart\n", false),
        ("cart-[0-9]{1,3}", "cart-12", true),
        ("cart-[0-9]{1,3}", "cart-1234", false),
        ("-cart", "-cart", true),
    ] {
        assert_eq!(NamePattern::parse(pattern).unwrap().matches(name), expected, "{pattern:?} {name:?}");
    }
}

#[test]
fn only_plain_names_are_literals() {
    for (pattern, literal) in [
        ("cart", Some("cart")),
        ("cart.v1", Some("cart.v1")),
        ("a_b", Some("a_b")),
        ("cart-.*", None),
        ("cart.", None),
        ("cart|shop", None),
        ("cärt", None),
    ] {
        assert_eq!(NamePattern::parse(pattern).unwrap().literal(), literal, "{pattern}");
    }
}

#[test]
fn wrong_patterns_say_what_is_wrong() {
    for (pattern, part) in [
        ("", "is empty"),
        ("  ", "is empty"),
        ("*", "write `.*` for anything"),
        ("cart[", "unclosed character class"),
        ("a)|(b", "unopened group"),
        ("(a", "unclosed group"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences are not supported"),
        (r"\w{5000}", "too big"),
        (r"((a{100}){100}){100}", "too big"),
    ] {
        let error = NamePattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(part), "{pattern:?}: {error}");
        assert!(!error.contains('\n'), "{pattern:?}: {error}");
        assert!(error.len() < 400, "{pattern:?}: {error}");
    }
}

#[test]
fn a_comment_cannot_swallow_the_anchor() {
    // Either refused or still anchored.
    if let Ok(pattern) = NamePattern::parse("(?x)cart#") {
        assert!(!pattern.matches("cart-2"));
    }
}

#[test]
fn lists_split_at_commas_outside_brackets() {
    for (text, items) in [
        ("", vec![]),
        (",, ,", vec![]),
        ("a", vec!["a"]),
        ("a, b ,c", vec!["a", "b", "c"]),
        ("web-[0-9]{1,3},db", vec!["web-[0-9]{1,3}", "db"]),
        ("(a,b),c", vec!["(a,b)", "c"]),
        ("[,],c", vec!["[,]", "c"]),
        (r"a\,b,c", vec![r"a\,b", "c"]),
        ("ä,ö", vec!["ä", "ö"]),
        ("a),b", vec!["a)", "b"]),
    ] {
        assert_eq!(split_list(text), items, "{text:?}");
    }
}

#[test]
fn lists_match_any_item_and_everything_when_empty() {
    for (text, name, expected) in
        [("", "cart", true), ("cart,shop", "shop", true), ("cart,shop", "cart2", false), ("cart-.*,x", "cart-2", true)]
    {
        assert_eq!(PatternList::parse_comma(text).unwrap().matches(name), expected, "{text:?} {name:?}");
    }
    let list = PatternList::parse(["cart", "shop-.*", "db"]).unwrap();
    assert_eq!(list.literals().collect::<Vec<_>>(), ["cart", "db"]);
    assert!(!list.all_literal());
    assert!(PatternList::parse(["cart", "db"]).unwrap().all_literal());
    assert!(!PatternList::default().all_literal());
    assert_eq!(PatternList::parse([""]), Err(PatternError::Empty));
}

#[test]
fn equal_texts_are_equal_patterns() {
    assert_eq!(NamePattern::parse("a.*").unwrap(), NamePattern::parse(" a.* ").unwrap());
    assert_ne!(NamePattern::parse("a.*").unwrap(), NamePattern::parse("a.+").unwrap());
    assert_eq!(PatternList::parse_comma("a,b").unwrap(), PatternList::parse(["a", "b"]).unwrap());
}

#[test]
fn groups_have_a_type_or_match_any() {
    use GroupKind::*;
    for (pattern, kind, name, expected) in [
        ("deployment+cart", Deployment, "cart", true),
        ("Deployment+cart", Deployment, "cart", true),
        ("deployment+cart", StatefulSet, "cart", false),
        ("deployment+cart", Deployment, "cart-2", false),
        ("replica+cart-5d9", ReplicaSet, "cart-5d9", true),
        ("STATEFUL+db", StatefulSet, "db", true),
        ("daemon+agent", DaemonSet, "agent", true),
        ("job+import", Job, "import", true),
        ("cronjob+import", CronJob, "import", true),
        ("replicationcontroller+old", ReplicationController, "old", true),
        ("cart", StatefulSet, "cart", true),
        ("cart", StatefulSet, "cart2", false),
        ("deployment+cart-.*", Deployment, "cart-2", true),
        ("deployment+cart-[0-9]+", Deployment, "cart-22", true),
        ("*+cart", Job, "cart", true),
        ("cart-[0-9]+", Job, "cart-22", true),
    ] {
        assert_eq!(GroupPattern::parse(pattern).unwrap().matches(kind, name), expected, "{pattern} {kind} {name}");
    }
    for (pattern, part) in [
        ("deploymnt+cart", "not a type of group"),
        ("pod+cart", "not a type of group"),
        ("", "empty"),
        ("job+[", "unclosed"),
    ] {
        let error = GroupPattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(part), "{pattern:?}: {error}");
    }
}

#[test]
fn containers_may_name_their_pod() {
    for (pattern, pod, container, expected) in [
        ("cart", "web-0", "cart", true),
        ("cart", "web-0", "cart2", false),
        ("web-0+cart", "web-0", "cart", true),
        ("web-0+cart", "web-1", "cart", false),
        ("web-0+cart", "web-0", "side", false),
        ("web-.*+cart", "web-7", "cart", true),
        ("web-.*+cart", "db-7", "cart", false),
        ("web-[0-9]++cart", "web-17", "cart", true),
        ("web-[0-9]+", "web-17", "web-17", true),
        ("web-0+c.*", "web-0", "cart", true),
        ("web.++side", "web-0", "side", true),
    ] {
        let parsed = ContainerPattern::parse(pattern).unwrap();
        assert_eq!(parsed.matches(pod, container), expected, "{pattern} {pod} {container}");
        assert_eq!(ContainerPattern::parse(&parsed.to_string()).unwrap(), parsed, "{pattern}");
    }
}

#[test]
fn text_patterns_are_unanchored_and_bounded() {
    assert!(compile_text("error").unwrap().is_match(b"an error \xff"));
    assert!(compile_text("").is_err());
    assert!(compile_text("(").unwrap_err().to_string().contains("unclosed group"));
    assert!(compile_text(r"((\w{100}){100}){100}").unwrap_err().to_string().contains("too big"));
}
