/** `npm run check`: the quick half of `npm test` – tidy, types and lint. */
import { checkHouse } from './check-house.ts'

process.exitCode = (await checkHouse()) ? 0 : 1
