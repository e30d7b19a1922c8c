/** Which columns of a table are shown, and what stands in them: the server's cells, and labels. */
import type { KindName } from '../../api/kinds.ts'
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { TableColumn, TableRow } from '../../rpc/messages.ts'
import type { GetFlags } from './flags.ts'

export interface TableView {
  readonly header: readonly string[]
  cells(item: MctlObject, row: TableRow | undefined): readonly string[]
}

export type ViewFlags = Pick<GetFlags, 'allNamespaces' | 'showLabels' | 'labelColumns' | 'showKind'> & {
  readonly wide?: boolean
}

interface ShownColumn {
  readonly header: string
  readonly cell: (item: MctlObject, row: TableRow | undefined) => string
}

/** NAMESPACE stands first with -A, labels last, as in kubectl. */
export function viewOf(kind: KindName, columns: readonly TableColumn[], flags: ViewFlags): TableView {
  const shown = [...namespaceColumn(kind, flags), ...serverColumns(kind, columns, flags), ...labelColumns(flags)]
  return {
    header: shown.map(({ header }) => header),
    cells: (item, row) => shown.map(({ cell }) => cell(item, row)),
  }
}

const namespaceColumn = (kind: KindName, { allNamespaces }: ViewFlags): readonly ShownColumn[] =>
  allNamespaces === true && kinds[kind].namespaced
    ? [{ header: 'NAMESPACE', cell: ({ metadata }) => metadata.namespace ?? '' }]
    : []

const serverColumns = (kind: KindName, columns: readonly TableColumn[], flags: ViewFlags): readonly ShownColumn[] =>
  columns.flatMap(({ name, priority }, index): ShownColumn[] => {
    if (priority > 0 && flags.wide !== true) return []
    const named = flags.showKind === true && name === 'NAME'
    return [
      {
        header: name,
        cell: (_, row) => {
          const cell = row?.cells[index] ?? ''
          return named ? qualifiedName(kind, cell) : cell
        },
      },
    ]
  })

function labelColumns({ labelColumns: keys = [], showLabels }: ViewFlags): readonly ShownColumn[] {
  const each = keys.map((key): ShownColumn => ({
    header: key.slice(key.lastIndexOf('/') + 1).toUpperCase(),
    cell: ({ metadata }) => metadata.labels?.[key] ?? '',
  }))
  return showLabels === true
    ? [...each, { header: 'LABELS', cell: ({ metadata }) => labelsText(metadata.labels) }]
    : each
}

const labelsText = (labels: Readonly<Record<string, string>> = {}): string =>
  Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '<none>'
