/** Failure codes 1470–1479: the event index. */
import { entry } from './entry.ts'

export const EVENTS_CODES = entry({
  TM1470: {
    title: 'the event index of a WAL segment was not written',
    manual:
      'The segment is archived, and nothing that a recovery needs is missing: its index only ' +
      'makes events quick, and is computed while reading where it is not there. tidemark wal ' +
      'index computes what is missing.',
    exitStatus: 1,
  },
})
