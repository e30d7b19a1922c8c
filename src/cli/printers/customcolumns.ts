/** `-o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName`: the user's own table. */
import { CliError } from '../context.ts'
import { fieldPath, valueText } from './jsonpath.ts'

export interface CustomColumns {
  readonly header: readonly string[]
  cells(value: unknown): readonly string[]
}

/** From the flag's value; CliError says which column is not understood. */
export function customColumns(spec: string): CustomColumns {
  if (spec.trim() === '') throw new CliError('custom-columns format specified but no custom columns given')
  const columns = spec.split(/,(?![^[]*\])/).map((column) => {
    const [, header, path] = /^([^:]+):(.+)$/s.exec(column.trim()) ?? []
    if (header === undefined || path === undefined)
      throw new CliError(`unexpected custom-columns spec: ${column}, expected <header>:<json-path-expr>`)
    return { header, path }
  })
  return tableOf(columns)
}

/** From a file's text: headers in the first line, paths in the second, parted by blanks. */
export function customColumnsOfFile(text: string): CustomColumns {
  const [headers = [], paths = []] = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(/\s+/))
  if (headers.length === 0 || headers.length !== paths.length)
    throw new CliError(
      `number of headers (${headers.length}) and field specifications (${paths.length}) don't match: the file holds headers in its first line, paths in its second`,
    )
  return tableOf(headers.map((header, i) => ({ header, path: paths[i] ?? '' })))
}

function tableOf(columns: readonly { readonly header: string; readonly path: string }[]): CustomColumns {
  const finders = columns.map(({ path }) => fieldPath(path))
  return {
    header: columns.map(({ header }) => header),
    cells: (value) => finders.map((find) => find(value).map(valueText).join(',') || '<none>'),
  }
}
