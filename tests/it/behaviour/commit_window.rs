//! The commit window in a whole engine: many clients that write, on a disk that takes its time.
//!
//! Whether a window opens depends on timing, so the test waits for one; what must hold is checked in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::common::{StopOnDrop, eventually};
use crate::double::DoubleDisk;
use crate::double::clients::{command, open, open_counted, send, value};
use post_gres_rs::command::Reply;
use post_gres_rs::engine::Fsync;
use post_gres_rs::metrics::Metrics;

/// A power of two, where a bucket of counts begins.
const CLIENTS: usize = 32;

const COMMIT_TAKES: Duration = Duration::from_millis(20);

/// How long a client thinks between two requests: without a window, others are committed meanwhile.
const THINKS: Duration = Duration::from_millis(2);

#[test]
fn on_a_slow_disk_all_clients_share_each_sync() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    disk.slow_down(COMMIT_TAKES);
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    let stop = AtomicBool::new(false);
    let key = |id: usize| format!("client {id}");
    let counts: Vec<i64> = std::thread::scope(|scope| {
        let client = |id| {
            let (engine, stop) = (&engine, &stop);
            move || {
                let mut count = 0;
                while !stop.load(Relaxed) {
                    count += 1;
                    std::thread::sleep(THINKS);
                    let incr = command(&["incr", &key(id)]);
                    let inbox = send(engine, vec![incr]);
                    assert_eq!(inbox.wait_for(1), [Reply::Integer(count)]);
                }
                count
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|id| scope.spawn(client(id))).collect();
        let until = StopOnDrop(&stop);
        eventually("most syncs carry all clients", || {
            metrics.batch_records.count() > 10
                && metrics.batch_records.quantile(0.5) >= CLIENTS as u64
        });
        drop(until);
        clients.into_iter().map(|client| client.join().expect("each reply once")).collect()
    });

    // A write that is sent just before the close is answered, too.
    let last = command(&["incr", &key(0)]);
    let inbox = send(&engine, vec![last]);
    assert!(engine.close());
    assert_eq!(inbox.count(), 1);
    let found = open(&disk.after_kill(), Fsync::Always).expect("the log starts by itself");
    for (id, count) in counts.into_iter().enumerate() {
        let count = count + i64::from(id == 0);
        assert_eq!(value(&found, &key(id)), Some(count.to_string()));
    }
    assert!(found.close());
}
