//! Which member of etcd is asked next: the own machine's first, and the next one after trouble.

/// The members in the order in which they are asked, in a circle.
#[derive(Clone, Debug)]
pub struct Members {
    all: Vec<String>,
    at: usize,
}

impl Members {
    /// Begins with the first member that runs on this machine: on its loopback address, or on `own_host`, by
    /// which others reach this machine.
    pub fn new(all: Vec<String>, own_host: Option<&str>) -> Members {
        assert!(!all.is_empty(), "an address has a member");
        let at = all.iter().position(|member| is_here(member, own_host)).unwrap_or(0);
        Members { all, at }
    }

    /// The member that is asked.
    pub fn current(&self) -> &str {
        &self.all[self.at]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Goes on to the next.
    pub fn advance(&mut self) {
        self.at = (self.at + 1) % self.all.len();
    }
}

fn is_here(member: &str, own_host: Option<&str>) -> bool {
    let host = member.rsplit_once(':').map_or(member, |(host, _)| host);
    let is_loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    is_loopback || own_host == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_member_is_asked_first_and_then_all_in_a_circle() {
        let all = || ["a:1", "b:1", "127.0.0.1:1"].map(str::to_owned).to_vec();
        let mut members = Members::new(all(), None);
        let mut asked = Vec::new();
        for _ in 0..=members.count() {
            asked.push(members.current().to_owned());
            members.advance();
        }
        assert_eq!(asked, ["127.0.0.1:1", "a:1", "b:1", "127.0.0.1:1"]);
        assert_eq!(Members::new(all(), Some("b")).current(), "b:1");
        assert_eq!(Members::new(vec!["a:1".into(), "b:1".into()], Some("c")).current(), "a:1");
    }
}
