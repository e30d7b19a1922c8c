/** This program's version, from its package.json. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../lib/nodeargv.ts'

export const version: string = (
  JSON.parse(readFileSync(join(packageRoot(import.meta.url), 'package.json'), 'utf8')) as { version: string }
).version
