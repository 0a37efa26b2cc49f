//! What is no error in a profile and still hardly meant, for `install-record check`.
//!
//! Pure: a profile in, sentences out. What cannot work at all is refused where it is read, in [`super`].

use super::{ConsentRules, Once, Profile, Setting};

impl Profile {
    /// What its author should look at again: each a sentence.
    pub fn remarks(&self, rules: &ConsentRules) -> Vec<String> {
        let own_no = rules.variables.is_empty() && rules.present.is_empty();
        let own_no = own_no.then(|| "no variable of its own says no, only DO_NOT_TRACK".to_owned());
        let events = self.once != Once::Call && self.events.len() > 1;
        let events = events.then(|| "of several events only the first is sent, because once is not call".to_owned());
        let version = self.option(Setting::ProductVersion);
        let version = self.once == Once::Version && !version.required && version.default.is_none();
        let version = version.then(|| "once for each version, but product-version is not required".to_owned());
        let has_type = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let kind = (!has_type).then(|| "no Content-Type header, which services of JSON ask for".to_owned());
        let single = [own_no, events, version, kind].into_iter().flatten();
        single.chain(self.idle_ids()).chain(self.idle_defaults()).collect()
    }

    /// IDs that nothing goes by.
    fn idle_ids(&self) -> impl Iterator<Item = String> {
        self.identity.iter().enumerate().filter_map(|(index, (id, _))| {
            let fact = id.fact();
            let is_counted = index == 0 && self.once != Once::Call;
            let is_idle = !is_counted && !self.templates().any(|template| template.facts().contains(&fact));
            is_idle.then(|| format!("{} is kept, but no template names it", fact.name()))
        })
    }

    /// Events that an earlier default always stands before.
    fn idle_defaults(&self) -> impl Iterator<Item = String> {
        let needs = |name: &str| self.events.iter().find(|(known, _)| known == name).map(|(_, body)| self.needed(body));
        self.default_events.iter().enumerate().filter_map(move |(index, name)| {
            let own = needs(name)?;
            let covers =
                |earlier: &&String| needs(earlier).is_some_and(|keys| keys.iter().all(|key| own.contains(key)));
            let earlier = self.default_events[..index].iter().find(covers)?;
            Some(format!("default_events: {name} is never meant, because {earlier} before it needs no more"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;

    #[test]
    fn each_remark_by_what_causes_it() {
        let good = r#"{"name":"mine","consent":{"variables":["MINE_OFF"]},"endpoint":"https://mine.example/",
            "headers":{"Content-Type":"application/json"},"identity":{"instance.id":{"file":"/var/lib/mine/id"}},
            "once":"call","set":{"a":{"required":true},"b":{"required":true}},"default_events":["two","one"],
            "events":{"one":["$set.a","$instance.id"],"two":["$set.a","$set.b"]}}"#;
        let remarks = |text: &str| {
            let source = Source::of_text("mine", text);
            source.profile().unwrap().remarks(&source.consent().unwrap())
        };
        assert_eq!(remarks(good), Vec::<String>::new());
        for (from, to, expected) in [
            (r#""variables":["MINE_OFF"]"#, "", "no variable of its own says no"),
            ("Content-Type", "X-Mine", "no Content-Type header"),
            ("$instance.id", "$os.id", "instance.id is kept, but no template names it"),
            (r#"["two","one"]"#, r#"["one","two"]"#, "two is never meant, because one before it"),
            (r#""once":"call""#, r#""once":"family""#, "of several events only the first is sent"),
            (r#""once":"call""#, r#""once":"version""#, "product-version is not required"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            assert!(remarks(&text).iter().any(|remark| remark.contains(expected)), "{expected}: {:?}", remarks(&text));
        }
    }
}
