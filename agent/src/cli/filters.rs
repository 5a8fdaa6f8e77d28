//! Filters that mean the same in every verb, and the same as in a URL.

/// Arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filters {
    /// Only this pod, by UID or name.
    #[arg(long)]
    pod: Option<String>,
    /// Only pods of this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Only this container, by its name, its id or the beginning of that.
    #[arg(long, value_name = "NAME|ID")]
    container: Option<String>,
    /// Only this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Only processes of this kernel name.
    #[arg(long)]
    comm: Option<String>,
    /// Only cgroups whose path begins so.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
}

impl Filters {
    /// Names and values as in a URL's query, of those that were given.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("pod", self.pod.clone()),
            ("namespace", self.namespace.clone()),
            ("container", self.container.clone()),
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("comm", self.comm.clone()),
            ("cgroup", self.cgroup.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}
