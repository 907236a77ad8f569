/** Failure codes 1460–1469: who may write which timeline. */
import { entry } from './entry.ts'

export const LINEAGE_CODES = entry({
  TM1460: {
    title: 'WAL does not continue what is archived',
    manual:
      'The segment comes from another server than the one that wrote this timeline so far, and ' +
      'its records do not go on where the archived ones end: the two servers have gone their ' +
      'own ways. It is kept in quarantine, and PostgreSQL keeps its file. If the other server ' +
      'is the right one, switch archiving off here (archive_mode = off). If this one is, ' +
      'choose it: `tidemark wal adopt --timeline N --from DIRECTORY`, first without --apply.',
    exitStatus: 1,
  },
  TM1461: {
    title: 'another server writes this timeline',
    manual:
      'The segment comes from another server than the one that wrote this timeline so far, and ' +
      'nothing shows that it continues what is archived: segments between the two are missing, ' +
      'and its pg_wal does not hold the last archived one any more. It is kept in quarantine. ' +
      'Bring the missing segments (`tidemark wal push FILE`), or let the server in with ' +
      '`tidemark wal adopt --timeline N --from DIRECTORY`.',
    exitStatus: 1,
  },
  TM1462: {
    title: 'number of the timeline is reserved',
    manual:
      'A restore with --take-over has reserved this number for the server that it restored, ' +
      'and another server was promoted to it. Its WAL is kept in quarantine, and PostgreSQL ' +
      'keeps its files. If this server is the one that goes on, give it the number: `tidemark ' +
      'wal adopt --timeline N --from DIRECTORY`. If the restore will never be used, release ' +
      'it: `tidemark wal adopt --release N`.',
    exitStatus: 1,
  },
  TM1463: {
    title: 'server was passed over',
    manual:
      'Someone has decided with `tidemark wal adopt` that another server goes on with this ' +
      'timeline. The WAL of this one is kept in quarantine. Switch archiving off here, make it ' +
      'a standby of the other (pg_rewind), or choose it again with `wal adopt`.',
    exitStatus: 1,
  },
  TM1464: {
    title: 'no such WAL to adopt',
    manual:
      'What `wal adopt` was told to take cannot be it: the directory is no data directory of ' +
      'this server, it holds no WAL of that timeline, nothing fits in quarantine, or several ' +
      'do.',
    exitStatus: 2,
  },
  TM1465: {
    title: 'WAL could not be set aside',
    manual:
      'Objects that `wal adopt` sets aside cannot be removed, since the bucket has them ' +
      'locked, or other servers kept writing while it ran. What was done is done: run it ' +
      'again, after the lock ends or with the other archiver switched off.',
    exitStatus: 1,
  },
  TM1466: {
    title: 'reservation cannot be released',
    manual: 'No restore has reserved that number, or its server has archived under it already.',
    exitStatus: 2,
  },
})
