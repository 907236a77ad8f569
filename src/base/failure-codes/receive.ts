/** Failure codes 1420 to 1439: receiving WAL by streaming. */
import { entry } from './entry.ts'

export const RECEIVE_CODES = entry({
  TM1420: {
    title: 'the role may not stream WAL',
    manual:
      'A replication connection needs a role with the attribute REPLICATION (or a superuser), ' +
      'and a line of pg_hba.conf whose database is the word replication: `all` does not cover it.',
    exitStatus: 1,
  },
  TM1421: {
    title: 'what answers does not speak the replication protocol',
    manual:
      'The peer sent something that no PostgreSQL server says at that point. A pooler or proxy ' +
      'between Tidemark and the server cannot pass WAL on; connect to the server itself.',
    exitStatus: 1,
  },
  TM1422: {
    title: 'the server fell silent',
    manual:
      'For a while nothing came from the server, it was asked for a sign of life, and gave none. ' +
      'The connection was closed. `wal receive` connects again by itself.',
    exitStatus: 1,
  },
  TM1423: {
    title: 'the replication slot cannot be used',
    manual:
      'A slot of that name is a logical one, or another process streams from it: two receivers ' +
      'cannot share a slot. A connection that was cut holds its slot until the server notices ' +
      '(wal_sender_timeout); `wal receive` tries again until then.',
    exitStatus: 1,
  },
  TM1424: {
    title: 'the replication slot was lost',
    manual:
      'The server has invalidated or dropped the slot, and no longer keeps WAL for the receiver. ' +
      'It is created anew. Whether WAL is missing is found out by asking for it; if it is, that ' +
      'is TM1425.',
    exitStatus: 1,
  },
  TM1425: {
    title: 'WAL is missing for ever',
    manual:
      'The server has removed WAL that was not received: the slot was dropped, invalidated ' +
      '(max_slot_wal_keep_size), or created too late. Moments between the end of the archive and ' +
      'the end of the gap cannot be recovered, and no later moment either until a new backup was ' +
      'taken: take one now. The gap is recorded in every repository and shown by `status`.',
    exitStatus: 1,
  },
  TM1426: {
    title: 'the server is behind the archive',
    manual:
      'The server accepts writes, and its WAL ends before what the repositories have of the ' +
      'same timeline: it lost WAL that was flushed, or it is an older copy of the server. ' +
      'Nothing is received from it, since it would write other WAL under the same names.',
    exitStatus: 1,
  },
  TM1427: {
    title: 'the timelines of the server and of the archive contradict each other',
    manual:
      'The archive ends on a timeline that is not in the history of the server, or the same ' +
      'timeline has two histories. The server does not go on with what is archived. Nothing was ' +
      'written.',
    exitStatus: 1,
  },
  TM1428: {
    title: 'the replication slot cannot be created',
    manual:
      'The server has no slot left (max_replication_slots), its wal_level is minimal, or the ' +
      'role may not create one.',
    exitStatus: 1,
  },
  TM1429: {
    title: 'a standby of the configuration keeps no WAL for the receiver',
    manual:
      'The slot on a standby could not be created or advanced. If that standby is promoted now, ' +
      'WAL that the receiver still lacks may be missing there.',
    exitStatus: 1,
  },
  TM1430: {
    title: 'replication connection',
    manual:
      'Check: the role of the connection is let in for replication: attribute REPLICATION, ' +
      'pg_hba.conf, max_wal_senders.',
    exitStatus: 3,
  },
  TM1431: {
    title: 'replication slot',
    manual: 'Check: the slot of the receiver is there, keeps WAL, and is streamed from.',
    exitStatus: 3,
  },
  TM1432: {
    title: 'synchronous commit',
    manual:
      'Check: where the receiver is among synchronous_standby_names, synchronous_commit is not ' +
      'remote_apply: the receiver stores WAL and applies none, so commits would wait for ever.',
    exitStatus: 3,
  },
  TM1433: {
    title: 'WAL under pressure',
    manual:
      'Check: what the server does with WAL when the receiver is away for long was decided ' +
      '(wal.onPressure), and max_slot_wal_keep_size says the same.',
    exitStatus: 3,
  },
})
