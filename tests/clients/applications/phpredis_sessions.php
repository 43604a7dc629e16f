<?php
// PHP's own sessions in phpredis with locks, in database 1: phpredis_sessions.php PORT
//
// Twenty requests of one visitor come at the same time, and each of them counts.

require __DIR__ . '/checks.php';

const REQUESTS = 20;
const VISITOR = 'avisitorssession';

if (($argv[2] ?? '') === 'request') {
    request((int) $argv[1]);
} else {
    visits((int) $argv[1]);
}

function visits(int $port): void
{
    $requests = $outputs = [];
    for ($i = 0; $i < REQUESTS; $i++) {
        $pipes = [];
        $requests[] = proc_open([PHP_BINARY, __FILE__, (string) $port, 'request'], [1 => ['pipe', 'w']], $pipes);
        $outputs[] = $pipes[1];
    }
    $counts = array_map('stream_get_contents', $outputs);
    sort($counts, SORT_NUMERIC);
    expect($counts, array_map('strval', range(1, REQUESTS)));
    expect(array_sum(array_map('proc_close', $requests)), 0);

    // The session is there, in its database; its lock is not.
    $direct = new Redis();
    $direct->connect('127.0.0.1', $port);
    expect($direct->dbSize(), 0);
    expect($direct->select(1), true);
    expect($direct->keys('*'), ['PHPREDIS_SESSION:' . VISITOR]);
}

function request(int $port): void
{
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://127.0.0.1:$port?database=1");
    ini_set('session.use_cookies', '0');
    ini_set('redis.session.locking_enabled', '1');
    ini_set('redis.session.lock_expire', '10');
    ini_set('redis.session.lock_retries', '2000');
    ini_set('redis.session.lock_wait_time', '2000'); // Microseconds.
    session_id(VISITOR);
    if (!session_start()) {
        exit(1);
    }
    $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
    usleep(2000);
    session_write_close();
    echo $_SESSION['visits'];
}
