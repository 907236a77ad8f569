/** Failure codes 206x and 207x: keeping dumps. */
import { entry } from './entry.ts'

export const DUMP_KEEPING_CODES = entry({
  TM2060: {
    title: 'no dump expires while something cannot be read',
    manual:
      'The record of a dump, or a hold, is damaged or was written by a later version. Nobody ' +
      'knows which packs it needs, so no dump and no pack of dumps is removed until it is ' +
      'settled: `tidemark sync` brings a whole record from another repository, and ' +
      '`tidemark expire --release ID` gives up a record that is lost, or the hold of a run that ' +
      'is dead. Backups expire all the same where nothing of theirs is in the way.',
    exitStatus: 1,
  },
  TM2061: {
    title: 'there is no such dump',
    manual:
      'No repository of the cluster that was looked at holds a dump of that id. `tidemark list` ' +
      'shows all of them. `latest` is the newest backup, and never a dump.',
    exitStatus: 2,
  },
  TM2062: {
    title: 'check: records of dumps',
    manual:
      'The record of a dump is damaged: nobody knows what that dump needs, it cannot be loaded, ' +
      'and no dump expires. Another repository of the cluster may have it whole.',
    exitStatus: 3,
  },
})
