//! A made-up node that goes on by this machine's clock, for those who look at it while it lives.

use super::{MadeUp, S};
use slowpod::capture::facts::clock;
use slowpod::capture::recent::Bounds;
use slowpod::pipeline::{Hub, Live};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A made-up node that lives on; ends when dropped.
pub struct Alive {
    /// What it feeds.
    pub hub: Arc<Hub>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl MadeUp {
    /// A node that lives on by this machine's clock: every second a resync, until `stop`. Its hub; joins the
    /// thread when dropped.
    pub fn alive(comm: &[u8], services: u32) -> Alive {
        let hub = Arc::new(Hub::new(Bounds::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut node = MadeUp::new(comm, clock::ktime_ns());
        let (own_hub, own_stop) = (hub.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut live = Live::new(&own_hub);
            while !own_stop.load(Ordering::Relaxed) {
                node.resync(services);
                node.cni_add();
                node.run_queues();
                // Records come when they have happened, not before.
                while node.now_ns > clock::ktime_ns() && !own_stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                node.give(&mut live);
                node.pass(S);
            }
        });
        Alive { hub, stop, thread: Some(thread) }
    }
}
