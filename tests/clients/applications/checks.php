<?php
// What the PHP applications in this directory share. Debian's Laravel is older than its PHP, so deprecations are not
// shown; an exception that nobody catches ends a program with an error by itself.

error_reporting(E_ALL & ~E_DEPRECATED);

function expect($got, $wanted): void
{
    if ($got !== $wanted) {
        $line = debug_backtrace()[0]['line'];
        echo "line $line: expected ", var_export($wanted, true), ', got ', var_export($got, true), "\n";
        exit(1);
    }
}
