/** Failure codes 2100 to 2119: copies from server to server, files of the plain tools. */
import { entry } from './entry.ts'

export const DIRECT_CODES = entry({
  TM2100: {
    title: 'options of a copy, an export or an import contradict each other',
    manual:
      'Some options have no meaning for a copy to another server, for a dump that goes into a ' +
      'file, or for a file that is loaded. Nothing was written.',
    exitStatus: 2,
  },
  TM2101: {
    title: 'the source of a direct copy has failed',
    manual:
      'pg_dump of the source ended with an error, was ended, or the session with its snapshot ' +
      'was lost. The tool that loads was killed before it could take the end of its input for ' +
      "the dump's end. The message says what stays in the target: nothing with --single- " +
      'transaction.',
    exitStatus: 1,
  },
  TM2110: {
    title: 'a file is no dump that can be loaded',
    manual:
      'The format is recognised by the first bytes: archives of pg_dump (custom, tar, ' +
      'directory), SQL text of pg_dump and pg_dumpall, all of that compressed with gzip or ' +
      'zstd. Other compression must be undone first: `bzip2 -dc FILE | tidemark load --import ' +
      '- …`.',
    exitStatus: 1,
  },
  TM2111: {
    title: 'a part of a split dump is missing',
    manual:
      'Parts are FILE.000, FILE.001 and so on, found by the first one. A number is left out, ' +
      'or a part in the middle has another size than the first. Nothing was changed.',
    exitStatus: 1,
  },
  TM2112: {
    title: 'a file that is loaded is damaged or not whole',
    manual:
      'The file ends before its dump does, its compression does not check, or it cannot be ' +
      'read. Where that comes out before the load, nothing was changed. Where it comes out ' +
      'within, the tool was killed before the end of what was read, and the message says what ' +
      'stays in the target.',
    exitStatus: 1,
  },
})
