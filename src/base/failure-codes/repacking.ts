/** Failure codes 192x: repacking. */
import { entry } from './entry.ts'

export const REPACKING_CODES = entry({
  TM1920: {
    title: 'a pack that was repacked is still the old one',
    manual:
      'Expiry replaced a pack by itself without the frames that no backup needs any more, and ' +
      'the storage still gives the old one. Nothing is lost: what is needed is in both. Either a ' +
      'rewrite of keys ran at the same time, or the storage answers with old versions of ' +
      'objects, which a repository cannot rely on.',
    exitStatus: 1,
  },
})
