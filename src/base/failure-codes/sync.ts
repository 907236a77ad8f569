/** Failure codes 193x: sync and heal. */
import { entry } from './entry.ts'

export const SYNC_CODES = entry({
  TM1930: {
    title: 'both repositories are one',
    manual:
      'The two repositories of a sync have the same id: they are one repository under two ' +
      'names, or one is a copy of the files of the other. Nothing was written.',
    exitStatus: 2,
  },
  TM1931: {
    title: 'a backup was not brought',
    manual:
      'A record is created in a repository only when everything that it names was seen there. ' +
      'Something that this backup needs could not be brought; the message says what and why. ' +
      'What was brought stays, and the next sync goes on from there.',
    exitStatus: 3,
  },
  TM1932: {
    title: 'another sync into the repository',
    manual:
      'Another sync into this repository has its hold there. Two at once could replace the ' +
      'same pack by different parts of it, so the later one does nothing. The hold of a process ' +
      'of this machine that is dead goes by itself; of another machine, a person must say so.',
    exitStatus: 1,
  },
  TM1933: {
    title: 'one pack, two contents',
    manual:
      'Two repositories hold a pack of one name with different frames. A backup writes its ' +
      'packs once, under names that no other uses, so something else has written one of them. ' +
      'Nothing was overwritten.',
    exitStatus: 3,
  },
  TM1934: {
    title: 'an object is left for the next sync',
    manual:
      'An expiry has condemned the object, or another run holds it in order to replace it. It ' +
      'was left alone, so that nothing that was removed comes back and no newer content is lost. ' +
      'Run sync again when the other run has ended.',
    exitStatus: 3,
  },
  TM1935: {
    title: 'the hold of a running sync was taken away',
    manual:
      'A sync holds what it brings, so that no expiry removes it before its backup is there. ' +
      '`tidemark expire --release` takes the hold away when a person says that its writer is ' +
      'dead; this one was alive. It ends, and lists no further backup. Run it again.',
    exitStatus: 1,
  },
})
