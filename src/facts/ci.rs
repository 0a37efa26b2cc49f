//! Whether a continuous integration service runs this, by the variables that the services set.
//!
//! The variables and names are those of the npm package ci-info, which Medusa and Strapi use. Only whether a variable
//! is set counts: no value of the environment becomes part of a fact.

use std::ffi::OsString;

/// A variable of each service and the service's name; the first that is set wins. Gitea sets GitHub's variable, too,
/// and so comes before it.
const SERVICES: &str = include_str!("ci-services");

/// The variables that say "CI" and no more.
const GENERAL: [&str; 3] = ["CI", "ci", "CONTINUOUS_INTEGRATION"];

/// The service's name, if a service or anything else says that this is continuous integration: none for what is no known
/// service.
pub fn detect(var: impl Fn(&str) -> Option<OsString>) -> Option<Option<&'static str>> {
    // `CI=false` wins over everything else that is set.
    if var("CI").is_some_and(|value| value == "false") {
        return None;
    }
    let mut services = SERVICES.lines().filter_map(|line| line.split_once('='));
    let service = services.find(|(variable, _)| var(variable).is_some()).map(|(_, name)| name);
    (service.is_some() || GENERAL.iter().any(|name| var(name).is_some())).then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        for (environment, is_detected, name) in [
            ("", false, None),
            ("CI=", false, None),
            ("CI=true", true, None),
            ("CI=1", true, None),
            ("ci=yes", true, None),
            ("CONTINUOUS_INTEGRATION=true", true, None),
            ("CI=false TRAVIS=true", false, None),
            ("GITHUB_ACTIONS=true", true, Some("GitHub Actions")),
            ("CI=true GITHUB_ACTIONS=true GITEA_ACTIONS=true", true, Some("Gitea Actions")),
            ("CI=true GITLAB_CI=true", true, Some("GitLab CI")),
            ("JENKINS_URL=https://ci.example/", true, Some("Jenkins")),
            ("TF_BUILD=True", true, Some("Azure Pipelines")),
            ("CIRCLECI= BUILD_ID=7 HOME=/root", false, None),
        ] {
            let variables = || environment.split(' ').filter_map(|word| word.split_once('='));
            // As for `Host::var`, an empty one is not set.
            let is = |(known, value): &(&str, &str), name: &str| *known == name && !value.is_empty();
            let var = |name: &str| variables().find(|variable| is(variable, name)).map(|(_, value)| value.into());
            assert_eq!(detect(var), is_detected.then_some(name), "{environment}");
        }
    }
}
