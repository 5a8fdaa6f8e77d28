//! Cleaning up after runs that were killed. In: their journals. Out: DEL with the recorded configuration and result,
//! namespaces removed, and what could not be done.

use super::conflist::Conflist;
use super::error::FluxError;
use super::journal::{self, Claim, Header, Left};
use super::netns;
use super::network::{Call, Network};
use super::stop::Stop;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for plugins of the killed run that are still at work: what they make now, DEL could not find.
const STRAGGLERS: Duration = Duration::from_secs(30);
/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What became of one run's remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Name of the run.
    pub run: String,
    /// Pods that were taken away.
    pub pods: usize,
    /// Why something is still there; the journal stays then.
    pub left: Vec<String>,
}

/// Cleans up after the runs with a journal in `dir` (only the one named, when one is), but not after those that
/// still go on. With `forget`, journals go even when plugins refuse.
///
/// # Errors
/// When the folder cannot be read, or the named run has no journal.
pub fn clean(dir: &Path, run: Option<&str>, forget: bool, stop: &Stop) -> Result<Vec<Cleaned>, FluxError> {
    let mut journals = journal::list(dir)?;
    if let Some(run) = run {
        journals.retain(|(name, _)| name == run);
        if journals.is_empty() {
            return Err(FluxError::Config(format!("no run {run} has notes in {}", dir.display())));
        }
    }
    Ok(journals.into_iter().filter_map(|(name, path)| clean_run(name, &path, forget, stop)).collect())
}

/// `None` when the run has ended in order, or somebody else has cleaned up after it, since the folder was read.
fn clean_run(run: String, path: &Path, forget: bool, stop: &Stop) -> Option<Cleaned> {
    let mut cleaned = Cleaned { run, pods: 0, left: Vec::new() };
    let mut file = match journal::claim(path, stop) {
        Ok(Claim::Ours(file)) => file,
        Ok(Claim::Gone) => return None,
        Ok(Claim::GoesOn) => {
            cleaned.left.push("it is still going on".into());
            return Some(cleaned);
        }
        Err(error) => {
            cleaned.left.push(format!("{}: {error}", path.display()));
            return Some(cleaned);
        }
    };
    match journal::read(&mut file) {
        Ok(Some((header, left))) => take_away(&header, &left, &mut cleaned, stop),
        Ok(None) => {}
        Err(why) => cleaned.left.push(format!("{} does not read: {why}", path.display())),
    }
    if (cleaned.left.is_empty() || forget)
        && let Err(error) = journal::remove(path)
    {
        cleaned.left.push(format!("{}: {error}", path.display()));
    }
    Some(cleaned)
}

fn take_away(header: &Header, left: &[Left], cleaned: &mut Cleaned, stop: &Stop) {
    wait_for_stragglers(left, stop);
    let list = Conflist::from_value(&header.conflist).map_err(FluxError::Config);
    let network = list.and_then(|list| Network::new(list, header.means.clone()));
    let loopback = header.loopback.then(|| Network::loopback(&header.means)).transpose();
    let networks = network.and_then(|network| Ok((network, loopback?)));
    if let Err(error) = &networks {
        cleaned.left.push(error.to_string());
    }
    for Left { pod, result } in left {
        let mut calls: Vec<Call> = Vec::new();
        if let Ok((network, loopback)) = &networks {
            calls = network.del(pod, result.as_ref(), stop);
            calls.extend(loopback.iter().flat_map(|loopback| loopback.del(pod, None, stop)));
        }
        let refused = calls.iter().find_map(|call| Some((call, call.failure.as_ref()?)));
        if let Some((call, failure)) = refused {
            cleaned.left.push(format!("{}: DEL by {}: {}", pod.name, call.plugin, failure.words));
        }
        // The namespace holds nothing that outlives it, so it goes whatever the plugins say.
        match netns::remove(&pod.netns) {
            Ok(()) if refused.is_none() && networks.is_ok() => cleaned.pods += 1,
            Ok(()) => {}
            Err(error) => cleaned.left.push(format!("{}: {error}", pod.netns.display())),
        }
    }
}

/// Plugins outlive a killed run. Each has its container id in its environment, but shows none for a moment while it
/// executes its program: so they are gone when they were not seen twice.
fn wait_for_stragglers(left: &[Left], stop: &Stop) {
    let ids: BTreeSet<&str> = left.iter().map(|left| left.pod.container_id.as_str()).collect();
    let (deadline, mut unseen) = (Instant::now() + STRAGGLERS, 0);
    while Instant::now() < deadline {
        unseen = if at_work(&ids) { 0 } else { unseen + 1 };
        if unseen == 2 || !stop.sleep(LOOK) {
            return;
        }
    }
}

fn at_work(ids: &BTreeSet<&str>) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let numbered =
        processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbered.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok()).any(|environment| {
        let ours = |variable: &[u8]| {
            let id = variable.strip_prefix(b"CNI_CONTAINERID=").and_then(|id| std::str::from_utf8(id).ok());
            id.is_some_and(|id| ids.contains(id))
        };
        environment.split(|byte| *byte == 0).any(ours)
    })
}
