/** Failure codes 15xx: repository and storage. */
import { entry } from './entry.ts'

export const STORAGE_CODES = entry({
  TM1501: {
    title: 'storage cannot be read or written',
    manual:
      'The storage behind a repository refused an operation for good: permission, a full disk, ' +
      'a read-only file system. What was acknowledged before is safe; what was under way is not ' +
      'visible and is cleaned up by the next run.',
    exitStatus: 1,
  },
  TM1502: {
    title: 'object exists already',
    manual:
      'An object that must be created only once was there already. Two runs met; the one that ' +
      'was first has won and nothing was overwritten.',
    exitStatus: 1,
  },
  TM1503: {
    title: 'no repository here',
    manual: 'The URL does not hold a Tidemark repository. `tidemark init` creates one.',
    exitStatus: 2,
  },
  TM1504: {
    title: 'repository format is newer than this program',
    manual: 'The repository was written by a later version of Tidemark. Use that version.',
    exitStatus: 2,
  },
  TM1505: {
    title: 'no such backup',
    manual: 'The repository holds no backup of that id. `tidemark list` shows those it holds.',
    exitStatus: 2,
  },
  TM1506: {
    title: 'storage is full',
    manual:
      'The device of the repository has no space left. Nothing half-made is visible; PostgreSQL ' +
      'keeps its WAL until there is room.',
    exitStatus: 1,
  },
  TM1507: {
    title: 'the repository has vanished',
    manual:
      'The place that the URL names does not hold the repository (the object ' +
      '`tidemark.repository` is not there), most often because its file system is not mounted. ' +
      'Nothing was read from it, nothing was written below the mount point, and no object was ' +
      'taken for absent. Mount it and run the command again.',
    exitStatus: 1,
  },
  TM1508: {
    title: 'the URL of a repository is not understood',
    manual:
      'A repository is named by a URL, such as file:///var/lib/tidemark. The message says what ' +
      'is wrong with this one and which kinds are supported. Nothing was done.',
    exitStatus: 2,
  },
  TM1509: {
    title: 'the object store does not answer',
    manual:
      'An object store could not be reached, was overloaded (503, SlowDown), or an answer or an ' +
      'upload was damaged or cut on its way; it was tried several times, with growing pauses. ' +
      'What was acknowledged before is safe, nothing half-made is visible, and no object was ' +
      'taken for absent. PostgreSQL keeps its WAL and tries again by itself.',
    exitStatus: 1,
  },
  TM1510: {
    title: 'the object store refuses the credentials',
    manual:
      'No credentials were found, the store does not know them, or they do not permit the ' +
      'operation. They come from accessKeyId and secretAccessKey of the repository in ' +
      'tidemark.yaml, else from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the shared ' +
      'credentials file or the role of the machine. Objects must be readable, writable, ' +
      'removable and listable (s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, ' +
      's3:AbortMultipartUpload, s3:ListBucketMultipartUploads).',
    exitStatus: 1,
  },
  TM1511: {
    title: 'there is no such bucket at the object store',
    manual:
      'The endpoint answers, but the bucket is not there, lies in another region, or what ' +
      'answers is no S3 store. Buckets are not created by Tidemark: create it with the tools of ' +
      'the store, or correct url, region, endpoint or pathStyle of the repository. No object was ' +
      'taken for absent.',
    exitStatus: 1,
  },
  TM1512: {
    title: 'the object store ignores conditional writes',
    manual:
      'Tidemark relies on If-None-Match: * of PutObject, so that of two runs that create one ' +
      'object exactly one wins. This store was tried and let the second one overwrite the first. ' +
      'It cannot hold a repository: two servers could overwrite each other’s WAL unnoticed. ' +
      'Amazon S3, MinIO, Ceph (radosgw) and Cloudflare R2 have conditional writes.',
    exitStatus: 1,
  },
  TM1513: {
    title: 'an object is locked and cannot be removed yet',
    manual:
      'The repository has `objectLock`, and the store keeps the object until the time that is ' +
      'said. Nothing is wrong: that is what the lock is for. Expiry reports it, and removes the ' +
      'object in a later run.',
    exitStatus: 1,
  },
  TM1514: {
    title: 'the object store cannot lock objects',
    manual:
      'The configuration asks for `objectLock`, and the store or the bucket has none, or the ' +
      'credentials do not permit it. Without locks, whoever has the keys of the store can remove ' +
      'all backups. A bucket gets object lock when it is created (and keeps versions from then ' +
      'on).',
    exitStatus: 1,
  },
  TM1520: {
    title: 'the repository is encrypted and no key is given',
    manual:
      'The configuration has no `encryption` for a repository that is encrypted. Give it the ' +
      'passphrase, key file or key command that one of its slots was made for. Nothing was done.',
    exitStatus: 2,
  },
  TM1521: {
    title: 'the repository is not encrypted',
    manual:
      'The configuration has `encryption` for a repository that is not encrypted. A repository ' +
      'is encrypted from its creation or never, so that nobody believes it is when it is not: ' +
      'create a new one, and copy the old one into it with `tidemark sync`. Nothing was done.',
    exitStatus: 2,
  },
  TM1522: {
    title: 'the key does not open the repository',
    manual:
      'No slot of the repository opens with the passphrase, key file or key command that the ' +
      'configuration names. The slots are whole: the key is another one. `tidemark key list` of ' +
      'somebody who has a key shows them. Nothing was done.',
    exitStatus: 2,
  },
  TM1523: {
    title: 'the key cannot be had',
    manual:
      'The key file cannot be read, the key command failed, or what they give is too short or ' +
      'empty. A passphrase has at least 8 characters, a key at least 32 bytes. Nothing was done.',
    exitStatus: 2,
  },
  TM1524: {
    title: 'the last key slot must stay',
    manual:
      'Without the slot nobody could open the repository any more: everything in it would be ' +
      'lost. Add another slot first. Nothing was removed.',
    exitStatus: 2,
  },
  TM1525: {
    title: 'no such key slot',
    manual: 'The repository has no key slot of that id. `tidemark key list` shows them.',
    exitStatus: 2,
  },
  TM1526: {
    title: 'the key slot does not open the newest key',
    manual:
      'The slot was removed, it was added in the moment of a rotation, or the repository has no ' +
      'key yet because its creation was interrupted. The message says which. Nothing was written.',
    exitStatus: 1,
  },
  TM1527: {
    title: 'the repository has no key slots',
    manual:
      'The command is about the keys of an encrypted repository, and this one is not encrypted. ' +
      'Nothing was done.',
    exitStatus: 2,
  },
  TM1528: {
    title: 'another rotation of the key was first',
    manual:
      'Two runs rotated the key at the same time; one has won, and its key is used. Nothing was ' +
      'changed by the other.',
    exitStatus: 1,
  },
})
