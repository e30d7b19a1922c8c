/** YAML, loaded when it is first used: most calls of the command line neither read nor write any. */
import { createRequire } from 'node:module'
import type * as yaml from 'yaml'

type Yaml = typeof yaml

const require = createRequire(import.meta.url)
let loaded: Yaml | undefined

export function lateYaml(): Yaml {
  loaded ??= require('yaml') as Yaml
  return loaded
}
