// What the Node.js applications in this directory share: run(main) gives main the PORT, and ends the process with 0
// only if main comes to its end. A promise that nothing keeps alive would otherwise end it with 0 as well.

module.exports = function run(main) {
  process.exitCode = 1;
  process.on("unhandledRejection", fail);
  main(Number(process.argv[2])).then(() => process.exit(0), fail);
};

function fail(error) {
  console.error(error);
  process.exit(1);
}
