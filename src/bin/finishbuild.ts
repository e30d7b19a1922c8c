/** The last step of `npm run build`, what tsc leaves to do: validators ready-made from the schemas, and a program that can be run. */
import { chmodSync } from 'node:fs'
import { writeValidators } from '../api/schemas.ts'

writeValidators()
// npm makes it so once for a folder; `npx mctl` of a clone that was made anew there would be denied.
chmodSync(new URL('mctl.js', import.meta.url), 0o755)
