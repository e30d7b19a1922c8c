/** Objects as text for scripts: YAML or JSON. */
import type { MctlObject } from '../../api/meta.ts'
import { lateYaml } from '../../lib/lateyaml.ts'

export const render = (value: unknown, output: string): string =>
  output === 'json'
    ? `${JSON.stringify(value, null, 4)}\n`
    : lateYaml().stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })

/** Who owns which field is bookkeeping that hides the object itself; kubectl shows it only when asked, too. */
export function withoutManagers(object: MctlObject): MctlObject {
  const { managedFields: _, ...metadata } = object.metadata
  return { ...object, metadata }
}
