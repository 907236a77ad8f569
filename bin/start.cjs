/**
 * Runs the program named by its first argument when this Node.js is new enough, and says
 * so when it is not. Old syntax on purpose: this is what an old Node.js gets to see.
 *
 * Invariant: a `wal get` under an unfit runtime ends with 255, never with a status that
 * PostgreSQL takes for "end of WAL".
 */
'use strict'

var OLDEST = 24
var version = process.versions.node

if (parseInt(version, 10) < OLDEST) {
  process.stderr.write(
    'error TM1801: Tidemark needs Node.js ' +
      OLDEST +
      ' or later\n' +
      '  because: ' +
      process.execPath +
      ' is Node.js ' +
      version +
      '\n' +
      '  fix: install Node.js ' +
      OLDEST +
      ' or later, or set TIDEMARK_NODE to the path of one\n'
  )
  process.exit((' ' + process.argv.slice(2).join(' ') + ' ').indexOf(' wal get ') < 0 ? 2 : 255)
} else {
  // Early releases of Node.js 24 warn that they strip types; users cannot act on that.
  process.removeAllListeners('warning')
  process.argv.splice(1, 1)
  import(require('node:url').pathToFileURL(process.argv[1]).href)
}
