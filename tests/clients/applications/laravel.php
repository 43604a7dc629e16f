<?php
// Laravel's cache, locks and login throttle over predis and over phpredis: laravel.php PORT
//
// The cache is in database 1, which is Laravel's default. phpredis tells no errors unless it is asked, so a
// limiter without scripts or databases would let everything through silently: the logins that are refused are counted.

require __DIR__ . '/checks.php';
require '/usr/share/php/Illuminate/Cache/autoload.php';
require '/usr/share/php/Illuminate/Redis/autoload.php';
require '/usr/share/php/Predis/autoload.php';

use Illuminate\Cache\RateLimiter;
use Illuminate\Cache\RedisStore;
use Illuminate\Cache\Repository;
use Illuminate\Container\Container;
use Illuminate\Redis\RedisManager;

$port = (int) $argv[1];

function cache_of(string $client): Repository
{
    global $port;
    $server = ['host' => '127.0.0.1', 'port' => $port];
    $redis = new RedisManager(new Container(), $client, [
        'options' => ['prefix' => 'site_'],
        'default' => $server + ['database' => 0],
        'cache' => $server + ['database' => 1],
    ]);
    $store = new RedisStore($redis, 'cache_', 'cache');
    return new Repository($store->setLockConnection('cache') ?? $store);
}

function values(Repository $cache): void
{
    expect($cache->put('page', ['lines' => [1, 2]], 60), true);
    expect($cache->get('page'), ['lines' => [1, 2]]);
    expect($cache->add('page', 'another', 60), false); // By a script.
    expect($cache->add('new', 'one', 60), true);
    expect($cache->get('new'), 'one');
    expect($cache->remember('made', 60, fn () => 'once'), 'once');
    expect($cache->remember('made', 60, fn () => 'twice'), 'once');
    $cache->put('visits', 1, 60);
    expect($cache->increment('visits', 4), 5);
    expect($cache->forget('page'), true);
    expect($cache->has('page'), false);
}

function locks(Repository $cache): void
{
    $mine = $cache->getStore()->lock('door', 10);
    $other = $cache->getStore()->lock('door', 10);
    expect($mine->get(), true);
    expect($other->get(), false);
    expect($other->release(), false); // By a script, which finds the lock to be another's.
    expect($other->get(), false);
    expect($mine->release(), true);
    expect($other->get(), true);
    expect($other->release(), true);

    expect($cache->getStore()->lock('short', 1)->get(), true);
    expect($cache->getStore()->lock('short', 10)->block(5, fn () => 'entered'), 'entered');
}

function logins(Repository $cache): void
{
    $throttle = new RateLimiter($cache);
    $answers = [];
    for ($i = 0; $i < 7; $i++) {
        $answers[] = $throttle->attempt('login', 5, fn () => true, 60) ? 'tried' : 'refused';
    }
    expect($answers, ['tried', 'tried', 'tried', 'tried', 'tried', 'refused', 'refused']);
    expect($throttle->availableIn('login') > 50, true);
    $throttle->clear('login');
    expect($throttle->tooManyAttempts('login', 5), false);
}

foreach (['predis', 'phpredis'] as $client) {
    $cache = cache_of($client);
    values($cache);
    locks($cache);
    logins($cache);

    $direct = new Redis();
    $direct->connect('127.0.0.1', $port);
    expect($direct->dbSize(), 0);
    expect($direct->select(1), true);
    expect($direct->dbSize() > 0, true);
    expect($cache->flush(), true);
    expect($direct->dbSize(), 0);
}
