/** Failure codes 19xx: retention. */
import { entry } from './entry.ts'

export const RETENTION_CODES = entry({
  TM1901: {
    title: 'the hold of a running backup was taken away',
    manual:
      'A backup holds what it needs, so that no expiry removes it. `tidemark expire --release` ' +
      'takes a hold away when a person says that its writer is dead; this one was alive. Its ' +
      'packs may be gone, so nothing of the backup is kept. Run it again.',
    exitStatus: 1,
  },
})
