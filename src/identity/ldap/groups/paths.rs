//! The way from a person to each of the groups that a directory answered in one list.

use std::collections::{HashMap, HashSet, VecDeque};

use super::parse;
use crate::identity::ldap::connection::Failure;
use crate::roles::dn::Dn;
use crate::roles::facts::Group;

/// The shortest way to each group along `edges`, which lead from a name to the groups right above it. A group that none of them leads
/// to keeps an empty one: it counts all the same.
pub fn along(person: &str, groups: Vec<String>, edges: &HashMap<Dn, Vec<String>>) -> Result<Vec<Group>, Failure> {
    let names = groups.iter().map(|dn| parse(dn)).collect::<Result<Vec<Dn>, Failure>>()?;
    let known: HashSet<&Dn> = names.iter().collect();
    let start = parse(person)?;
    let mut ways: HashMap<Dn, Vec<String>> = HashMap::new();
    let mut next = VecDeque::from([(start.clone(), Vec::new())]);
    while let Some((name, way)) = next.pop_front() {
        for above in edges.get(&name).into_iter().flatten() {
            let above_name = parse(above)?;
            if above_name == start || !known.contains(&above_name) || ways.contains_key(&above_name) {
                continue;
            }
            ways.insert(above_name.clone(), way.clone());
            let further = way.iter().cloned().chain([above.clone()]).collect();
            next.push_back((above_name, further));
        }
    }
    Ok(groups.into_iter().zip(&names).map(|(dn, name)| Group { dn, via: ways.remove(name).unwrap_or_default() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_is_taken_and_circles_end() {
        let name = |cn: &str| Dn::parse(&format!("cn={cn}")).unwrap();
        let up = |cns: &[&str]| cns.iter().map(|cn| format!("CN={cn}")).collect::<Vec<_>>();
        let edges = HashMap::from([
            (name("me"), up(&["a"])),
            (name("a"), up(&["b", "elsewhere"])),
            (name("b"), up(&["c", "a", "me"])),
            (name("elsewhere"), up(&["c"])),
        ]);
        let groups = along("cn=me", up(&["c", "a", "b", "island"]), &edges).unwrap();
        let ways: Vec<(&str, Vec<&str>)> =
            groups.iter().map(|group| (group.dn.as_str(), group.via.iter().map(String::as_str).collect())).collect();
        assert_eq!(ways, [("CN=c", vec!["CN=a", "CN=b"]), ("CN=a", vec![]), ("CN=b", vec!["CN=a"]), ("CN=island", vec![])]);
    }
}
