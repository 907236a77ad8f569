/** Failure codes 16xx: damage. */
import { entry } from './entry.ts'

export const DAMAGE_CODES = entry({
  TM1601: {
    title: 'an object of the repository is damaged',
    manual:
      'A stored object is there but its bytes are not those that were written: its hash or its ' +
      'structure does not hold. The message names the object.',
    exitStatus: 1,
  },
  TM1602: {
    title: 'an object of the repository is missing',
    manual:
      'A backup record, a page map, or the record or a chunk list of a dump names an object that ' +
      'the repository does not hold.',
    exitStatus: 1,
  },
  TM1603: {
    title: 'objects of a backup do not fit together',
    manual:
      'Every object is as it was written, but a page map names a page that is not the one it ' +
      'describes, or a frame or slot that does not exist, or a record, its file list and its ' +
      'maps contradict each other. A restore of that backup would end with TM1218. That is no ' +
      'wear of a disk: please report it.',
    exitStatus: 1,
  },
  TM1604: {
    title: 'a stored page has a wrong checksum',
    manual:
      'The page is stored as it was read from the cluster, and its own checksum does not hold, ' +
      'although the backup does not list it as damaged. The page was damaged before it was ' +
      'stored.',
    exitStatus: 1,
  },
  TM1605: {
    title: 'an object is sealed with a key that cannot be had',
    manual:
      'The repository is encrypted, and the object names a data key that none of the generations ' +
      'has that could be opened, while one of them is missing or damaged. The object itself may ' +
      'be whole. Bring the object `keys/….key` back from a copy of the repository.',
    exitStatus: 1,
  },
  TM1606: {
    title: 'a key slot or a generation of keys is damaged',
    manual:
      'An object below `keys/` of an encrypted repository is not as it was written: its hash or ' +
      'its proof does not hold. This is not a wrong key (TM1522). Other slots still open the ' +
      'repository; a generation has to be brought back from a copy.',
    exitStatus: 1,
  },
})
